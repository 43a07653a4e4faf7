// The cells of a Lattice ECP5 that a board's top has at its pins, for simulation.

// CLKI runs at twice the frequency of CLKOP; CLKOS comes a quarter of CLKOP's cycle later.
module EHXPLLL #(
    parameter PLLRST_ENA = "", INTFB_WAKE = "", STDBY_ENABLE = "", DPHASE_SOURCE = "",
    parameter OUTDIVIDER_MUXA = "", OUTDIVIDER_MUXB = "", OUTDIVIDER_MUXC = "",
    parameter OUTDIVIDER_MUXD = "", FEEDBK_PATH = "", CLKOP_ENABLE = "", CLKOS_ENABLE = "",
    parameter CLKI_DIV = 1, CLKFB_DIV = 1, CLKOP_DIV = 4, CLKOP_CPHASE = 0, CLKOP_FPHASE = 0,
    parameter CLKOS_DIV = 4, CLKOS_CPHASE = 1, CLKOS_FPHASE = 0
) (
    input CLKI, CLKFB, RST, STDBY, PHASESEL0, PHASESEL1, PHASEDIR, PHASESTEP, PHASELOADREG,
    input PLLWAKESYNC, ENCLKOP,
    output CLKOP, CLKOS, LOCK
);
  reg op = 0, os = 0;
  reg [4:0] edges = 0;
  always @(posedge CLKI) begin
    op = ~op;
    if (!(&edges)) edges = edges + 1;
  end
  always @(negedge CLKI) os = op;
  assign CLKOP = op;
  assign CLKOS = os;
  assign LOCK = &edges;
  generate
    if (CLKOS_DIV != CLKOP_DIV || 4 * (CLKOS_CPHASE - CLKOP_CPHASE) != CLKOP_DIV) begin : wrong
      initial begin
        $display("EHXPLLL: CLKOS is not a quarter of a cycle behind CLKOP");
        $finish;
      end
    end
  endgenerate
endmodule

module IB(input I, output O);
  assign O = I;
endmodule

module OBZ(input I, T, output O);
  assign O = T ? 1'bz : I;
endmodule

module BB(input I, T, output O, inout B);
  assign B = T ? 1'bz : I;
  assign O = B;
endmodule

module IFS1P3DX(input D, SP, SCLK, CD, output reg Q);
  initial Q = 0;
  always @(posedge SCLK or posedge CD) if (CD) Q <= 0; else if (SP) Q <= D;
endmodule

module OFS1P3DX(input D, SP, SCLK, CD, output reg Q);
  initial Q = 0;
  always @(posedge SCLK or posedge CD) if (CD) Q <= 0; else if (SP) Q <= D;
endmodule

module FD1S3AX(input D, CK, output reg Q);
  initial Q = 0;
  always @(posedge CK) Q <= D;
endmodule

// Only for what does not change: how late the data of a real one are is not modelled.
module ODDRX1F(input D0, D1, SCLK, RST, output Q);
  assign Q = RST ? 1'b0 : SCLK ? D0 : D1;
endmodule
