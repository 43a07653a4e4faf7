// A machine with Weft's pins that copies the CONST window to the OUTPUT window: a test of the
// memory models and devices that needs no accelerator. Names in @...@ are filled in by the test.
//
// Reads run up to four bursts ahead, RREADY falls when the FIFO is full, write data may overtake
// its address. Unit 0 retires with each read burst, unit 4 with each write response. A number in
// WATCHDOG makes it break one rule of the bus protocol.

module weft #(
    parameter BITS = @BUS_BITS@
) (
    input  wire              clk,
    input  wire              rst,
    output wire              irq,
    output reg  [4:0]        retire,
    output wire              m_axi_arid,
    output wire [31:0]       m_axi_araddr,
    output wire [7:0]        m_axi_arlen,
    output wire [2:0]        m_axi_arsize,
    output wire [1:0]        m_axi_arburst,
    output wire              m_axi_arvalid,
    input  wire              m_axi_arready,
    input  wire              m_axi_rid,
    input  wire [BITS-1:0]   m_axi_rdata,
    input  wire [1:0]        m_axi_rresp,
    input  wire              m_axi_rlast,
    input  wire              m_axi_rvalid,
    output wire              m_axi_rready,
    output wire              m_axi_awid,
    output wire [31:0]       m_axi_awaddr,
    output wire [7:0]        m_axi_awlen,
    output wire [2:0]        m_axi_awsize,
    output wire [1:0]        m_axi_awburst,
    output wire              m_axi_awvalid,
    input  wire              m_axi_awready,
    output wire [BITS-1:0]   m_axi_wdata,
    output wire [BITS/8-1:0] m_axi_wstrb,
    output wire              m_axi_wlast,
    output wire              m_axi_wvalid,
    input  wire              m_axi_wready,
    input  wire              m_axi_bid,
    input  wire [1:0]        m_axi_bresp,
    input  wire              m_axi_bvalid,
    output wire              m_axi_bready,
    input  wire [9:0]        s_axil_awaddr,
    input  wire [2:0]        s_axil_awprot,
    input  wire              s_axil_awvalid,
    output wire              s_axil_awready,
    input  wire [31:0]       s_axil_wdata,
    input  wire [3:0]        s_axil_wstrb,
    input  wire              s_axil_wvalid,
    output wire              s_axil_wready,
    output wire [1:0]        s_axil_bresp,
    output reg               s_axil_bvalid,
    input  wire              s_axil_bready,
    input  wire [9:0]        s_axil_araddr,
    input  wire [2:0]        s_axil_arprot,
    input  wire              s_axil_arvalid,
    output wire              s_axil_arready,
    output reg  [31:0]       s_axil_rdata,
    output wire [1:0]        s_axil_rresp,
    output reg               s_axil_rvalid,
    input  wire              s_axil_rready
);
    localparam BYTES = BITS / 8;
    localparam SIZE  = $clog2(BYTES);
    localparam BURST = 8;
    localparam DEPTH = 16;

    // Registers.
    reg [31:0] src, dst, bytes, enable, status, cycles, read_beats, write_beats;
    reg        start, run, done, failed;
    reg [3:0]  breach;
    reg [7:0]  error;
    reg [1:0]  pending;
    wire       write = s_axil_awvalid & s_axil_wvalid & ~s_axil_bvalid;
    wire       read  = s_axil_arvalid & ~s_axil_rvalid;
    assign s_axil_awready = write;
    assign s_axil_wready  = write;
    assign s_axil_arready = read;
    assign s_axil_bresp   = 2'b00;
    assign s_axil_rresp   = 2'b00;
    assign irq            = |(pending & enable[1:0]);

    wire soft_reset = write & s_axil_awaddr == 10'h020 & s_axil_wdata[1];

    // Both transfers, in beats still to go.
    reg [31:0] ar_addr, aw_addr;
    reg [31:0] ar_left, aw_left, w_left, b_left;
    reg [2:0]  w_count;
    reg [2:0]  outstanding;
    wire [31:0] beats = bytes >> SIZE;
    wire [31:0] ar_now = ar_left > BURST ? BURST : ar_left;
    wire [31:0] aw_now = aw_left > BURST ? BURST : aw_left;

    reg [BITS-1:0] fifo [0:DEPTH-1];
    reg [4:0]  level;
    reg [3:0]  head, tail;

    assign m_axi_arid    = breach == 6;
    assign m_axi_araddr  = ar_addr ^ (breach == 8 & cycles[0] ? BYTES : 0);
    assign m_axi_arlen   = ar_now[7:0] - 8'd1;
    assign m_axi_arsize  = SIZE;
    assign m_axi_arburst = 2'b01;
    assign m_axi_arvalid = run & ar_left != 0 & outstanding < 4;
    assign m_axi_rready  = run & level < DEPTH;
    assign m_axi_awid    = 1'b0;
    assign m_axi_awaddr  = aw_addr;
    assign m_axi_awlen   = aw_now[7:0] - 8'd1;
    assign m_axi_awsize  = breach == 4 ? 0 : SIZE;
    assign m_axi_awburst = breach == 5 ? 2'b10 : 2'b01;
    assign m_axi_awvalid = run & aw_left != 0 & (breach != 7 | cycles[0]);
    assign m_axi_wdata   = fifo[tail];
    assign m_axi_wstrb   = {BYTES{1'b1}};
    assign m_axi_wlast   = w_count == (breach == 1 ? BURST - 2 : BURST - 1) | w_left == 1;
    assign m_axi_wvalid  = run & w_left != 0 & level != 0;
    assign m_axi_bready  = run;

    wire ar = m_axi_arvalid & m_axi_arready;
    wire r  = m_axi_rvalid & m_axi_rready;
    wire aw = m_axi_awvalid & m_axi_awready;
    wire w  = m_axi_wvalid & m_axi_wready;
    wire b  = m_axi_bvalid & m_axi_bready;
    wire last = b & b_left == 1;

    always @(posedge clk) begin
        retire <= 5'd0;
        start  <= 1'b0;
        if (write) begin
            s_axil_bvalid <= 1'b1;
            case (s_axil_awaddr)
                10'h020: start <= s_axil_wdata[0];
                10'h030: pending <= pending & ~s_axil_wdata[1:0];
                10'h034: enable <= s_axil_wdata;
                10'h03c: breach <= s_axil_wdata[3:0];
                10'h060: src <= s_axil_wdata;
                10'h068: bytes <= s_axil_wdata;
                10'h080: dst <= s_axil_wdata;
                default: ;
            endcase
        end else if (s_axil_bready) s_axil_bvalid <= 1'b0;

        if (read) begin
            s_axil_rvalid <= 1'b1;
            case (s_axil_araddr)
                10'h000: s_axil_rdata <= 32'h54464557;
                10'h004: s_axil_rdata <= 32'h00010000;
                10'h008: s_axil_rdata <= 32'h@CONFIG_LO@;
                10'h00c: s_axil_rdata <= 32'h@CONFIG_HI@;
                10'h024: s_axil_rdata <= {29'd0, failed, done, run};
                10'h028: s_axil_rdata <= {24'd0, error};
                10'h030: s_axil_rdata <= {30'd0, pending};
                10'h038: s_axil_rdata <= 32'h00ab;
                10'h100: s_axil_rdata <= cycles;
                10'h104: s_axil_rdata <= read_beats;
                10'h108: s_axil_rdata <= write_beats;
                default: s_axil_rdata <= 32'd0;
            endcase
        end else if (s_axil_rready) s_axil_rvalid <= 1'b0;

        if (start) begin
            run <= 1'b1;
            done <= 1'b0;
            failed <= 1'b0;
            error <= 8'd0;
            ar_addr <= breach == 2 ? src + 4096 - 2 * BYTES : breach == 3 ? src + 1 : src;
            aw_addr <= dst;
            ar_left <= beats;
            aw_left <= beats;
            w_left <= beats;
            b_left <= (beats + BURST - 1) / BURST;
            w_count <= 3'd0;
            outstanding <= 3'd0;
            cycles <= 32'd0;
            read_beats <= 32'd0;
            write_beats <= 32'd0;
            level <= 5'd0;
            head <= 4'd0;
            tail <= 4'd0;
        end else if (run) begin
            cycles <= cycles + 32'd1;
            outstanding <= outstanding + {2'd0, ar} - {2'd0, r & m_axi_rlast};
            level <= level + {4'd0, r} - {4'd0, w};
            if (ar) begin
                ar_addr <= ar_addr + BURST * BYTES;
                ar_left <= ar_left - ar_now;
            end
            if (r) begin
                fifo[head] <= m_axi_rdata;
                head <= head + 4'd1;
                read_beats <= read_beats + 32'd1;
                retire[0] <= m_axi_rlast;
                if (m_axi_rresp[1]) error <= 8'd8;
            end
            if (aw) begin
                aw_addr <= aw_addr + BURST * BYTES;
                aw_left <= aw_left - aw_now;
            end
            if (w) begin
                tail <= tail + 4'd1;
                w_count <= w_count + 3'd1;
                w_left <= w_left - 32'd1;
                write_beats <= write_beats + 32'd1;
            end
            if (b) begin
                b_left <= b_left - 32'd1;
                retire[4] <= 1'b1;
                if (m_axi_bresp[1]) error <= 8'd9;
            end
            if (last) begin
                run <= 1'b0;
                done <= error == 0 & ~m_axi_bresp[1];
                failed <= error != 0 | m_axi_bresp[1];
                pending <= error != 0 | m_axi_bresp[1] ? 2'b10 : 2'b01;
            end
        end

        if (rst | soft_reset) begin
            run <= 1'b0;
            done <= 1'b0;
            failed <= 1'b0;
            error <= 8'd0;
            pending <= 2'd0;
            start <= 1'b0;
            retire <= 5'd0;
        end
        if (rst) begin
            enable <= 32'd0;
            s_axil_bvalid <= 1'b0;
            s_axil_rvalid <= 1'b0;
        end
    end
endmodule
