// The cells of a Gowin GW2A that a board's top has at its pins, for simulation.

// CLKIN runs at twice the frequency of CLKOUT; CLKOUTP comes a quarter of CLKOUT's cycle later.
module rPLL #(
    parameter FCLKIN = "", DEVICE = "", IDIV_SEL = 0, FBDIV_SEL = 0, ODIV_SEL = 8,
    parameter PSDA_SEL = "0000", DUTYDA_SEL = "1000", CLKFB_SEL = "",
    parameter DYN_IDIV_SEL = "", DYN_FBDIV_SEL = "", DYN_ODIV_SEL = "", DYN_DA_EN = ""
) (
    input CLKIN, CLKFB, RESET, RESET_P,
    input [5:0] FBDSEL, IDSEL, ODSEL,
    input [3:0] PSDA, DUTYDA, FDLY,
    output CLKOUT, CLKOUTP, LOCK
);
  reg out = 0, late = 0;
  reg [4:0] edges = 0;
  always @(posedge CLKIN) begin
    out = ~out;
    if (!(&edges)) edges = edges + 1;
  end
  always @(negedge CLKIN) late = out;
  assign CLKOUT = out;
  assign CLKOUTP = late;
  assign LOCK = &edges;
  generate
    if (PSDA_SEL != "0100" || DUTYDA_SEL != "1000") begin : wrong
      initial begin
        $display("rPLL: CLKOUTP is not a quarter of a cycle behind CLKOUT");
        $finish;
      end
    end
  endgenerate
endmodule

module IBUF(input I, output O);
  assign O = I;
endmodule

module TBUF(input I, OEN, output O);
  assign O = OEN ? 1'bz : I;
endmodule

module IOBUF(input I, OEN, output O, inout IO);
  assign IO = OEN ? 1'bz : I;
  assign O = IO;
endmodule

// Only for what does not change.
module ODDR #(parameter TXCLK_POL = 0) (input D0, D1, TX, CLK, output Q0, Q1);
  assign Q0 = CLK ? D0 : D1;
  assign Q1 = TX;
endmodule
