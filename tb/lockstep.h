// What every instruction of a run writes, seen at the memories' write ports; see lockstep.py.
//
// Signals of the machine are found by their names in the Verilog (lockstep.vlt keeps them).

#ifndef WEFT_LOCKSTEP_H
#define WEFT_LOCKSTEP_H

#include "axi_memory.h"
#include "verilated.h"
#include "verilated_syms.h"

#include <array>
#include <unordered_map>

namespace weft {

enum Unit { LOAD, WEIGHT, MATMUL, VECTOR, STORE, UNITS };
enum Space { ACT, WGT, PAR, TBL, ACC, DRAM, SPACES };

// A byte (in ACC: a column's sum) written by instruction `number` of `unit`, counted from 0.
struct Written {
    uint64_t address;
    uint32_t unit, number, space, value;
};

// A signal of the Verilated model.
class Tap {
public:
    bool open(const VerilatedContext& context, const std::string& scope, const std::string& name) {
        const VerilatedScope* found = context.scopeFind(("weft.weft.core." + scope).c_str());
        const VerilatedVar* variable = found ? found->varFind(name.c_str()) : nullptr;
        if (!variable) return false;
        m_data = static_cast<const uint8_t*>(variable->datap());
        m_bytes = variable->entSize();
        return true;
    }
    unsigned bytes() const { return m_bytes; }
    // Up to 32 bits from bit `low` on.
    uint64_t bits(unsigned low, unsigned count) const {
        uint64_t out = 0;
        for (unsigned byte = low / 8; byte <= (low + count - 1) / 8; ++byte) {
            out |= uint64_t(m_data[byte]) << (8 * byte - low / 8 * 8);
        }
        return out >> (low % 8) & ((uint64_t{1} << count) - 1);
    }
    uint8_t operator[](unsigned byte) const { return m_data[byte]; }
    uint64_t value() const {
        switch (m_bytes) {
        case 1: return *m_data;
        case 2: return *reinterpret_cast<const SData*>(m_data);
        case 4: return *reinterpret_cast<const IData*>(m_data);
        default: return *reinterpret_cast<const QData*>(m_data);
        }
    }

private:
    const uint8_t* m_data = nullptr;
    unsigned m_bytes = 0;  // at most 8 where `value` is asked for
};

class Lockstep {
public:
    bool on = false;
    std::vector<Written> log;
    // Of each instruction: the sum of `mix` over the addresses that it wrote and what it left there.
    std::array<std::vector<uint64_t>, UNITS> digests;

    // Sizes in bytes of ACT, WGT, PAR and TBL; false if the Verilog does not have the signals.
    bool open(const VerilatedContext& context, const uint64_t* sizes) {
        bool found = m_load.open(context, "act.write_load", sizes[ACT]);
        found &= m_vector.open(context, "act.write_vector", sizes[ACT]);
        found &= m_beat_base.open(context, "load_unit", "act__base");
        found &= m_beat_data.open(context, "load_unit", "act__data");
        found &= m_beat_mask.open(context, "load_unit", "mask");
        const std::string accumulator = "gemm.accumulator";
        Tap enable, control, total;
        m_beats.clear();
        const char* names[] = {"wgt__en", "par__en", "tbl__en"};
        for (unsigned i = 0; i < 3; ++i) {
            if (!enable.open(context, "load_unit", names[i])) continue;
            m_beats.push_back({enable, Space(WGT + i), sizes[WGT + i] - 1});
        }
        m_columns.clear();
        for (unsigned c = 0; total.open(context, accumulator + ".column_" + std::to_string(c), "total"); ++c) {
            // The stage of the accumulator's pipeline that writes column c.
            found &= control.open(context, accumulator, "control_" + std::to_string(c + 3));
            m_columns.push_back({control, total, 0});
        }
        return on = found && !m_columns.empty();
    }

    // A run begins; DRAM addresses count from `base`.
    void clear(uint64_t base) {
        m_base = base;
        ++m_run;
        log.clear();
        m_dram.clear();
        for (auto& of_unit : digests) of_unit.clear();
        m_count = m_before = {};
        for (Column& column : m_columns) column.number = 0;
    }

    // The settled signals of a cycle, in which the units of mask `retire` complete an instruction.
    void sample(unsigned retire) {
        path(m_load, LOAD);
        path(m_vector, VECTOR);
        for (const Beats& port : m_beats) {
            if (!port.enable[0]) continue;
            const uint64_t base = m_beat_base.value() & port.wrap, mask = m_beat_mask.value();
            for (unsigned i = 0; i < m_beat_data.bytes(); ++i) {
                if (mask >> i & 1) write(LOAD, m_count[LOAD], port.space, base + i, m_beat_data[i]);
            }
        }
        for (unsigned c = 0; c < m_columns.size(); ++c) {
            Column& column = m_columns[c];
            const uint64_t control = column.control.value();  // valid, last, overwrite, entry
            if (!(control & 1)) continue;
            const uint64_t address = (control >> 3) * m_columns.size() + c;
            write(MATMUL, column.number, ACC, address, uint32_t(column.total.value()));
            column.number += control >> 1 & 1;
        }
        m_before = m_count;
        for (unsigned unit = 0; unit < UNITS; ++unit) m_count[unit] += retire >> unit & 1;
    }

    template <unsigned BYTES>
    void store(uint64_t address, const Beat<BYTES>& beat) {
        for (unsigned i = 0; i < BYTES; ++i) {
            if (beat.strobe >> i & 1) {
                write(STORE, m_count[STORE], DRAM, address - m_base + i, beat.data[i]);
            }
        }
    }

private:
    // A write path of ACT, which writes in the cycle after the unit did.
    struct Path {
        Tap en, addr, lanes;  // lanes that each bank writes; a word for each lane; their bytes
        unsigned word_bits = 0;
        bool open(const VerilatedContext& context, const char* scope, uint64_t size) {
            if (!en.open(context, scope, "en") || !addr.open(context, scope, "addr")
                || !lanes.open(context, scope, "lanes")) {
                return false;
            }
            for (word_bits = 0; lanes.bytes() << word_bits < size;) ++word_bits;
            return true;
        }
    };
    // A memory that bus beats fill.
    struct Beats {
        Tap enable;
        Space space;
        uint64_t wrap;  // mask of its addresses
    };
    struct Column {
        Tap control, total;
        uint32_t number;  // of the instruction whose sums arrive
    };
    struct Cell {
        uint64_t writer;  // run, instruction and unit that wrote last
        uint32_t value;
    };

    Path m_load, m_vector;
    Tap m_beat_base, m_beat_data, m_beat_mask;
    std::vector<Beats> m_beats;
    std::vector<Column> m_columns;
    std::array<std::vector<Cell>, DRAM> m_cells;  // of the memories on chip
    std::unordered_map<uint64_t, Cell> m_dram;
    std::array<uint32_t, UNITS> m_count{}, m_before{};  // completed by now, and a cycle ago
    uint64_t m_base = 0, m_run = 0;

    void path(const Path& port, Unit unit) {
        const unsigned width = port.lanes.bytes();
        for (unsigned byte = 0; byte < port.en.bytes(); ++byte) {
            for (unsigned bit = 0, mask = port.en[byte]; mask >> bit; ++bit) {
                if (!(mask >> bit & 1)) continue;
                const unsigned lane = (8 * byte + bit) % width;
                const uint64_t word = port.addr.bits(lane * port.word_bits, port.word_bits);
                write(unit, m_before[unit], ACT, word * width + lane, port.lanes[lane]);
            }
        }
    }

    void write(Unit unit, uint32_t number, Space space, uint64_t address, uint32_t value) {
        auto& digest = digests[unit];
        if (number >= digest.size()) digest.resize(number + 1);
        Cell& cell = find(space, address);
        const uint64_t writer = m_run << 32 | uint64_t(number) << 3 | unit;
        if (cell.writer == writer) digest[number] -= mix(space, address, cell.value);
        digest[number] += mix(space, address, value);
        cell = {writer, value};
        log.push_back({address, unit, number, space, value});
    }

    Cell& find(Space space, uint64_t address) {
        if (space == DRAM) return m_dram[address];
        auto& cells = m_cells[space];
        if (address >= cells.size()) cells.resize(2 * address + 1);
        return cells[address];
    }

    static uint64_t mix(Space space, uint64_t address, uint32_t value) {
        return splitmix((address << 3 | space) << 32 | value);
    }
};

}  // namespace weft

#endif
