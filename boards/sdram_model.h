// An SDRAM chip that checks every time of its data sheet; bursts of one word, 4 banks.
//
// The board says its geometry: SDRAM_COL_BITS, SDRAM_ROW_BITS, and SDRAM_WIDTH, 16 or 32.

#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace weft {

// Times in picoseconds, but for `mode` in clock cycles.
struct SdramTimes {
    int64_t rcd, rp, ras, rc, rfc, wr, rrd, mode, refresh, power_up, access, period;
};

class SdramModel {
public:
    using Word = std::conditional_t<SDRAM_WIDTH == 32, uint32_t, uint16_t>;
    static constexpr unsigned COLS = SDRAM_COL_BITS, ROWS = SDRAM_ROW_BITS, BANKS = 4;
    static constexpr unsigned BYTES = sizeof(Word);
    static constexpr int64_t LONG_AGO = -(int64_t(1) << 60);
    // Refreshes that may be put off.
    static constexpr int64_t POSTPONED = 8;

    struct Pins {
        bool cke, cs, ras, cas, we;  // active high
        unsigned ba, a, dqm;
        Word dq;
        bool dq_driven;
    };

    explicit SdramModel(const SdramTimes& times) : m_t(times), m_cells(BANKS << (COLS + ROWS)) {
        uint64_t state = 1;  // at power-up cells hold anything
        for (auto& cell : m_cells) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            cell = Word(state >> 32);
        }
        for (auto& bank : m_banks) bank = {false, 0, LONG_AGO, LONG_AGO, LONG_AGO};
    }

    std::string violation;        // the first, with its time
    uint64_t reads = 0, writes = 0, refreshes = 0, activations = 0;

    // Whether the chip drives the data lines, and with what, at a time since the last edge.
    bool drives() const { return m_driving; }
    Word output(int64_t now) const {
        return now - m_edge >= m_t.access ? m_data : Word(~m_data ^ 0x5a5a5a5a);
    }

    // A rising edge of the clock at `now` picoseconds.
    void edge(int64_t now, const Pins& pins) {
        if (m_edge != LONG_AGO) {
            check(now - m_edge >= m_t.period, now, "the clock's period is too short");
        }
        m_edge = now;
        ++m_cycle;
        m_driving = m_next_driving;
        m_data = m_next_data;
        m_next_driving = false;
        check(!(m_driving && pins.dq_driven), now, "both ends drive the data lines");
        if (!pins.cke || !pins.cs) return;
        const unsigned code = pins.ras << 2 | pins.cas << 1 | pins.we;
        if (code == 0) return;  // NOP
        check(now >= m_t.power_up, now, "a command comes before power-up is over");
        check(m_cycle - m_mode_cycle >= m_t.mode, now, "tMRD: a command comes too early");
        if (m_ready) refresh_in_time(now);
        switch (code) {
        case 0b100: activate(now, pins); break;
        case 0b010: read(now, pins); break;
        case 0b011: write(now, pins); break;
        case 0b101: precharge(now, pins); break;
        case 0b110: refresh(now); break;
        case 0b111: set_mode(now, pins); break;
        default: check(false, now, "BURST TERMINATE is not expected");
        }
    }

private:
    struct Bank {
        bool open;
        unsigned row;
        int64_t activated, precharged, written;
    };

    void check(bool good, int64_t now, const char* what) {
        if (good || !violation.empty()) return;
        violation = std::string(what) + ", at " + std::to_string(now / 1000) + " ns";
    }

    void idle(int64_t now, const char* who) {
        for (const auto& bank : m_banks) {
            check(!bank.open, now, (std::string(who) + " with an open row").c_str());
            check(now - bank.precharged >= m_t.rp, now, "tRP: PRECHARGE was too late before");
        }
        check(now - m_refreshed >= m_t.rfc, now, "tRFC: a command comes too early after REFRESH");
    }

    void refresh_in_time(int64_t now) {
        const int64_t wanted = (now - m_ready_since) / m_t.refresh - POSTPONED;
        check(int64_t(refreshes - m_refreshes_before) >= wanted, now, "tREFI: REFRESH is late");
    }

    void activate(int64_t now, const Pins& pins) {
        Bank& bank = m_banks[pins.ba];
        check(m_ready, now, "ACTIVE before initialisation");
        check(!bank.open, now, "ACTIVE with an open row");
        check(now - bank.precharged >= m_t.rp, now, "tRP: ACTIVE comes too early");
        check(now - bank.activated >= m_t.rc, now, "tRC: ACTIVE comes too early");
        check(now - m_refreshed >= m_t.rfc, now, "tRFC: ACTIVE comes too early");
        check(now - m_activated >= m_t.rrd, now, "tRRD: ACTIVE comes too early");
        bank.open = true;
        bank.row = pins.a & ((1u << ROWS) - 1);
        bank.activated = m_activated = now;
        ++activations;
    }

    Word& cell(int64_t now, const Pins& pins) {
        const Bank& bank = m_banks[pins.ba];
        check(bank.open, now, "READ or WRITE without an open row");
        check(now - bank.activated >= m_t.rcd, now, "tRCD: READ or WRITE comes too early");
        check(!(pins.a & 1u << 10), now, "auto precharge is not expected");
        const unsigned column = pins.a & ((1u << COLS) - 1);
        return m_cells[(size_t(bank.row) << 2 | pins.ba) << COLS | column];
    }

    void read(int64_t now, const Pins& pins) {
        const Word data = cell(now, pins);
        check(m_latency == 2, now, "only CAS latency 2 is modelled");
        check(pins.dqm == 0, now, "DQM in a READ is not expected");
        m_next_driving = true;
        m_next_data = data;
        ++reads;
    }

    void write(int64_t now, const Pins& pins) {
        Word& data = cell(now, pins);
        check(pins.dq_driven, now, "WRITE without data");
        Word mask = 0;
        for (unsigned i = 0; i < BYTES; ++i) mask |= pins.dqm >> i & 1 ? 0 : Word(0xff) << 8 * i;
        data = (data & ~mask) | (pins.dq & mask);
        m_banks[pins.ba].written = now;
        writes += mask != 0;
    }

    void precharge(int64_t now, const Pins& pins) {
        for (unsigned i = 0; i < BANKS; ++i) {
            Bank& bank = m_banks[i];
            if (!(pins.a & 1u << 10) && i != pins.ba) continue;
            if (bank.open) {
                check(now - bank.activated >= m_t.ras, now, "tRAS: PRECHARGE comes too early");
                check(now - bank.written >= m_t.wr, now, "tWR: PRECHARGE comes too early");
            }
            bank.open = false;
            bank.precharged = now;
        }
        m_precharged = true;
    }

    void refresh(int64_t now) {
        check(m_precharged, now, "REFRESH before PRECHARGE");
        idle(now, "REFRESH");
        m_refreshed = now;
        ++refreshes;
    }

    void set_mode(int64_t now, const Pins& pins) {
        idle(now, "MODE");
        check(refreshes >= 8, now, "MODE before 8 refreshes");
        check((pins.a & 0xf) == 0, now, "MODE: bursts of one word are expected");
        m_latency = pins.a >> 4 & 7;
        check(m_latency == 2 || m_latency == 3, now, "MODE: CAS latency must be 2 or 3");
        m_mode_cycle = m_cycle;
        m_ready = true;
        m_ready_since = now;
        m_refreshes_before = refreshes;
    }

    SdramTimes m_t;
    std::vector<Word> m_cells;
    std::array<Bank, BANKS> m_banks;
    int64_t m_edge = LONG_AGO, m_refreshed = LONG_AGO, m_activated = LONG_AGO, m_ready_since = 0;
    int64_t m_cycle = 0, m_mode_cycle = LONG_AGO;
    uint64_t m_refreshes_before = 0;
    unsigned m_latency = 0;
    bool m_ready = false, m_precharged = false;
    bool m_driving = false, m_next_driving = false;
    Word m_data = 0, m_next_data = 0;
};

}  // namespace weft
