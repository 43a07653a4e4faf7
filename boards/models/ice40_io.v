// The cells of an iCE40 UltraPlus that a board's top names, for simulation.

module SB_GB_IO #(parameter PIN_TYPE = 6'b0, IO_STANDARD = "") (
    input PACKAGE_PIN, output GLOBAL_BUFFER_OUTPUT
);
  assign GLOBAL_BUFFER_OUTPUT = PACKAGE_PIN;
endmodule

// Without registers.
module SB_IO #(parameter PIN_TYPE = 6'b0, IO_STANDARD = "", PULLUP = 0) (
    inout PACKAGE_PIN, input D_OUT_0, OUTPUT_ENABLE, output D_IN_0
);
  generate
    if (PIN_TYPE[5:2] != 0) assign PACKAGE_PIN = OUTPUT_ENABLE ? D_OUT_0 : 1'bz;
    if (PIN_TYPE != 6'b000001 && PIN_TYPE != 6'b101001) begin : wrong
      initial begin
        $display("SB_IO: only pins without registers are modelled");
        $finish;
      end
    end
  endgenerate
  assign D_IN_0 = PACKAGE_PIN;
endmodule

// What is read in a cycle that writes is undefined, and so is all of it at first.
module SB_SPRAM256KA (
    input CLOCK, CHIPSELECT, WREN, STANDBY, SLEEP, POWEROFF,
    input [13:0] ADDRESS, input [15:0] DATAIN, input [3:0] MASKWREN,
    output reg [15:0] DATAOUT
);
  reg [15:0] words [0:16383];
  integer i;
  always @(posedge CLOCK)
    if (CHIPSELECT) begin
      if (WREN) begin
        for (i = 0; i < 4; i = i + 1) if (MASKWREN[i]) words[ADDRESS][4*i +: 4] <= DATAIN[4*i +: 4];
        DATAOUT <= 16'hxxxx;
      end else DATAOUT <= words[ADDRESS];
    end
endmodule
