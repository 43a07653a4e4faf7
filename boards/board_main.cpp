// A board as a shared library: the Verilated top, and models of what is soldered to its pins.
//
// Python (simulation.py) calls the C functions below. Time passes in quarters of the core's cycle:
// the clock pin runs at CLOCK_DIVIDER times the core's frequency, see the clock generators in
// models/. board.h, which simulation.py writes, has that, and which pin, and whether there is an SDRAM.

#include "Vmodel.h"
#include "board.h"
#include "sdram_model.h"
#include "verilated.h"

#include <deque>
#include <memory>

namespace {

// The host's end of the serial line.
class Uart {
public:
    Uart(double send_bit, double receive_bit) : m_send_bit(send_bit), m_receive_bit(receive_bit) {}

    std::deque<uint8_t> to_board;
    std::vector<uint8_t> from_board;
    bool idle() const { return m_bit < 0 && to_board.empty(); }

    // The level that the host drives in this cycle.
    bool drive(double now) {
        while (m_bit >= 0 && now >= m_bit_end) {
            m_bit_end += m_send_bit;
            if (++m_bit > 9) m_bit = -1;
        }
        if (m_bit < 0) {
            if (to_board.empty()) return true;
            m_byte = to_board.front();
            to_board.pop_front();
            m_bit = 0;
            m_bit_end = now + m_send_bit;
        }
        return m_bit == 0 ? false : m_bit == 9 ? true : m_byte >> (m_bit - 1) & 1;
    }

    void sample(double now, bool level) {
        if (m_received < 0) {
            if (!level) {
                m_received = 0;
                m_sample = now + m_receive_bit / 2;
            }
        } else if (now >= m_sample) {
            m_sample += m_receive_bit;
            if (m_received == 0) {
                if (level) m_received = -2;
            } else if (m_received <= 8) {
                m_shift = m_shift >> 1 | level << 7;
            } else {
                if (level) from_board.push_back(m_shift);
                m_received = -2;
            }
            ++m_received;
        }
    }

private:
    double m_send_bit, m_receive_bit, m_bit_end = 0, m_sample = 0;
    int m_bit = -1, m_received = -1;
    uint8_t m_byte = 0, m_shift = 0;
};

class Board {
public:
    Board(const weft::SdramTimes& times, int64_t period, double send_bit, double receive_bit)
        : sdram(times), uart(send_bit, receive_bit), m_quarter(period / 4) {
        m_model = std::make_unique<Vmodel>(&m_context, "board");
        m_model->CLOCK_PIN = 0;
        m_model->uart_0_rx_io = 1;
        m_model->eval();
    }

    ~Board() {
        m_model->final();
        Verilated::threadContextp(&m_context);
    }

    weft::SdramModel sdram;
    Uart uart;
    uint64_t cycle = 0;

    bool stopped() const { return m_context.gotFinish(); }

    void step() {
        Vmodel& pins = *m_model;
        pins.uart_0_rx_io = uart.drive(double(cycle));
        for (int quarter = 0; quarter < 4; ++quarter) {
#if HAS_SDRAM
            if (sdram.drives()) pins.sdram_0_dq_io = sdram.output(m_now);
#endif
            pins.CLOCK_PIN = CLOCK_DIVIDER == 2 ? !(quarter & 1) : quarter < 2;
            pins.eval();
#if HAS_SDRAM
            const bool clock = pins.sdram_0_clk_io;
            if (clock && !m_clock) sdram.edge(m_now, sdram_pins());
            m_clock = clock;
#endif
            m_now += m_quarter;
        }
        uart.sample(double(cycle), pins.TX_PIN);
        ++cycle;
    }

private:
#if HAS_SDRAM
    weft::SdramModel::Pins sdram_pins() const {
        const Vmodel& pins = *m_model;
        const weft::SdramModel::Word enabled = pins.sdram_0_dq_io__en;
        return {bool(pins.sdram_0_clk_en_io), !pins.sdram_0_cs_io, !pins.sdram_0_ras_io,
                !pins.sdram_0_cas_io,         !pins.sdram_0_we_io, pins.sdram_0_ba_io,
                pins.sdram_0_a_io,            pins.sdram_0_dqm_io, pins.sdram_0_dq_io__out,
                enabled == weft::SdramModel::Word(~0)};
    }
#endif

    VerilatedContext m_context;
    std::unique_ptr<Vmodel> m_model;
    int64_t m_quarter, m_now = 0;
    bool m_clock = false;
};

}  // namespace

#define WEFT_API extern "C" __attribute__((visibility("default")))

// Bits are in cycles, times in picoseconds.
WEFT_API Board* board_create(const weft::SdramTimes* times, int64_t period, double send_bit,
                             double receive_bit) {
    return new Board(*times, period, send_bit, receive_bit);
}

WEFT_API void board_destroy(Board* b) { delete b; }

WEFT_API void board_send(Board* b, const uint8_t* data, uint64_t size) {
    b->uart.to_board.insert(b->uart.to_board.end(), data, data + size);
}

// Runs until `most` bytes came, or some did and then none for `quiet` cycles, or none within
// `patience` cycles from the time when all was sent, or the chip was misused. Returns how many.
WEFT_API uint64_t board_receive(Board* b, uint8_t* data, uint64_t most, uint64_t quiet,
                                uint64_t patience) {
    auto& got = b->uart.from_board;
    uint64_t silent = 0;
    while (got.size() < most && b->sdram.violation.empty() && !b->stopped()) {
        const size_t before = got.size();
        b->step();
        const bool busy = !b->uart.idle() || got.size() != before;
        silent = busy ? 0 : silent + 1;
        if (silent >= (got.empty() ? patience : quiet)) break;
    }
    const uint64_t count = std::min<uint64_t>(most, got.size());
    std::copy_n(got.begin(), count, data);
    got.erase(got.begin(), got.begin() + count);
    return count;
}

WEFT_API void board_run(Board* b, uint64_t cycles) {
    while (cycles-- && !b->stopped()) b->step();
}

WEFT_API const char* board_violation(Board* b) { return b->sdram.violation.c_str(); }

// Words written, words read, refreshes, rows opened, cycles.
WEFT_API void board_counts(Board* b, uint64_t* out) {
    out[0] = b->sdram.writes;
    out[1] = b->sdram.reads;
    out[2] = b->sdram.refreshes;
    out[3] = b->sdram.activations;
    out[4] = b->cycle;
}
