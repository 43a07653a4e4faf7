// The whole machine as a shared library: the Verilated model, its memory, and an AXI-Lite master.
//
// Python (fast.py) calls the C functions below; between START and the interrupt no Python runs.

#include "Vmodel.h"
#include "axi_memory.h"
#include "lockstep.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_fst_c.h"
#endif
#if VM_COVERAGE
#include "verilated_cov.h"
#endif
#if WEFT_STATE
#include "verilated_syms.h"
#endif

#include <memory>

namespace {

constexpr unsigned BYTES = WEFT_BUS_BYTES;

template <class Pin>
void put(Pin& pin, const uint8_t* bytes) {
    std::memcpy(&pin, bytes, BYTES);
}

template <class Pin>
void get(const Pin& pin, uint8_t* bytes) {
    std::memcpy(bytes, &pin, BYTES);
}

// A register or memory of the machine.
struct Element {
    std::string name;
    uint8_t* data;
    uint64_t bits, words, stride;  // bits of a word, words, bytes from word to word
};

class Machine {
public:
    explicit Machine(int random_seed) {
        m_context.randReset(random_seed ? 2 : 0);
        // Neighbouring small seeds give Verilator's generator nearly the same start.
        if (random_seed) m_context.randSeed(int(weft::splitmix(random_seed) >> 34) + 1);
        m_context.traceEverOn(VM_TRACE);
        m_model = std::make_unique<Vmodel>(&m_context, "weft");
        m_model->clk = 0;
        idle_pins();
#if WEFT_STATE
        for (const auto& scope : *m_context.scopeNameMap()) {
            const VerilatedVarNameMap* variables = scope.second->varsp();
            if (!variables) continue;
            for (const auto& entry : *variables) {
                const VerilatedVar& var = entry.second;
                if (!var.isPublicRW()) continue;
                state.push_back({std::string(scope.first) + "." + entry.first,
                                 static_cast<uint8_t*>(var.datap()), var.entBits(),
                                 var.udims() ? uint64_t(var.elements(1)) : 1, var.entSize()});
            }
        }
#endif
    }

    ~Machine() {
#if VM_TRACE
        if (m_trace) m_trace->close();
#endif
        m_model->final();
        // What the model's scopes deregister from; it is another machine's where several are open.
        Verilated::threadContextp(&m_context);
    }

    weft::AxiMemory<BYTES> memory;
    weft::Lockstep lockstep;
    std::vector<weft::Event> retired;  // cycle, unit
    uint64_t cycle = 0, origin = 0;
    std::vector<Element> state;  // where the library was built for it

    // Invert a bit of the state in cycle `at` of the next run: the cycle sees it inverted.
    void flip(uint64_t at, const Element& element, uint64_t word, uint64_t bit) {
        m_flip_after = at;
        m_flipped = element.data + word * element.stride + bit / 8;
        m_flip = uint8_t(1u << (bit % 8));
    }

    bool follow(const uint64_t* sizes) {
        if (!lockstep.open(m_context, sizes)) return false;
        memory.on_write = [this](uint64_t address, const weft::Beat<BYTES>& beat) {
            lockstep.store(address, beat);
        };
        return true;
    }

    bool trace(const char* path) {
#if VM_TRACE
        m_trace = std::make_unique<VerilatedFstC>();
        m_model->trace(m_trace.get(), 99);
        m_trace->open(path);
        return m_trace->isOpen();
#else
        return false;
#endif
    }

    void flush() {
#if VM_TRACE
        if (m_trace) m_trace->flush();
#endif
    }

    void coverage(const char* path) {
#if VM_COVERAGE
        m_context.coveragep()->write(path);
#else
        (void)path;
#endif
    }

    void reset(unsigned cycles) {
        m_model->rst = 1;
        idle_pins();
        for (unsigned i = 0; i < cycles; ++i) step<false>();
        m_model->rst = 0;
        memory.clear();
    }

    // Returns the response, or -1 if the machine does not answer within `limit` cycles.
    // Bit i of `strobes` writes byte i.
    int write(uint32_t address, uint32_t value, unsigned strobes, uint64_t limit, bool start) {
        Vmodel& pins = *m_model;
        pins.s_axil_awaddr = address;
        pins.s_axil_wdata = value;
        pins.s_axil_wstrb = strobes;
        pins.s_axil_awprot = address >> 2 & 7;  // which the machine does not look at
        pins.s_axil_awvalid = pins.s_axil_wvalid = pins.s_axil_bready = 1;
        for (const uint64_t end = cycle + limit; cycle < end;) {
            settle();
            const bool aw = pins.s_axil_awvalid && pins.s_axil_awready;
            const bool w = pins.s_axil_wvalid && pins.s_axil_wready;
            const bool answered = pins.s_axil_bvalid;
            const int response = pins.s_axil_bresp;
            if (start && (aw || !pins.s_axil_awvalid) && (w || !pins.s_axil_wvalid)) {
                start = false;
                origin = cycle + 1;
                retired.clear();
                memory.origin(origin);
                m_flip_at = m_flipped ? origin + m_flip_after : weft::NEVER;
                lockstep.clear(memory.base());
            }
            finish();
            if (aw) pins.s_axil_awvalid = 0;
            if (w) pins.s_axil_wvalid = 0;
            if (answered) {
                pins.s_axil_bready = 0;
                return response;
            }
        }
        idle_pins();
        return -1;
    }

    // Returns the value, -1 if there is no answer, -2 if the answer is an error.
    int64_t read(uint32_t address, uint64_t limit) {
        Vmodel& pins = *m_model;
        pins.s_axil_araddr = address;
        pins.s_axil_arprot = address >> 2 & 7;
        pins.s_axil_arvalid = 1;
        pins.s_axil_rready = 1;
        for (const uint64_t end = cycle + limit; cycle < end;) {
            settle();
            const bool ar = pins.s_axil_arvalid && pins.s_axil_arready;
            const bool r = pins.s_axil_rvalid;
            const int64_t value = pins.s_axil_rresp ? -2 : int64_t(pins.s_axil_rdata);
            finish();
            if (ar) pins.s_axil_arvalid = 0;
            if (r) {
                pins.s_axil_rready = 0;
                return value;
            }
        }
        idle_pins();
        return -1;
    }

    // Runs until the interrupt (1), `limit` cycles, `patience` cycles without a handshake on the
    // bus or a completed instruction (0), or, if strict, a breach of the protocol (-1).
    int run(uint64_t limit, uint64_t patience, bool strict) {
        m_active = cycle;
        for (const uint64_t end = cycle + limit; cycle < end;) {
            settle();
            const bool interrupt = m_model->irq;
            finish();
            if (strict && !memory.violation.empty()) return -1;
            if (interrupt) return 1;
            if (cycle - m_active > patience) return 0;
        }
        return 0;
    }

    void idle(uint64_t cycles) {
        while (cycles--) step<true>();
    }

private:
    VerilatedContext m_context;
    std::unique_ptr<Vmodel> m_model;
#if VM_TRACE
    std::unique_ptr<VerilatedFstC> m_trace;
#endif

    void idle_pins() {
        m_model->s_axil_awvalid = m_model->s_axil_wvalid = m_model->s_axil_bready = 0;
        m_model->s_axil_arvalid = m_model->s_axil_rready = 0;
        m_model->s_axil_awprot = m_model->s_axil_arprot = 0;
    }

    void dump(unsigned phase) {
#if VM_TRACE
        if (m_trace) m_trace->dump(10 * cycle + phase);
#else
        (void)phase;
#endif
    }

    template <bool MEMORY>
    void step() {
        settle<MEMORY>();
        finish<MEMORY>();
    }

    // First part of a cycle: drive the inputs, let everything settle.
    template <bool MEMORY = true>
    void settle() {
        Vmodel& pins = *m_model;
        if (MEMORY) {
            memory.drive(cycle);
            pins.m_axi_arready = memory.arready;
            pins.m_axi_awready = memory.awready;
            pins.m_axi_wready = memory.wready;
            pins.m_axi_rvalid = memory.rvalid;
            pins.m_axi_rlast = memory.rlast;
            pins.m_axi_rresp = memory.rresp;
            if (memory.rvalid) put(pins.m_axi_rdata, memory.rdata);
            pins.m_axi_bvalid = memory.bvalid;
            pins.m_axi_bresp = memory.bresp;
        } else {
            pins.m_axi_arready = pins.m_axi_awready = pins.m_axi_wready = 0;
            pins.m_axi_rvalid = pins.m_axi_bvalid = 0;
        }
        if (cycle == m_flip_at) *m_flipped ^= m_flip;
        pins.clk = 0;
        pins.eval();
        dump(5);
    }

    // Second part: take the outputs, and the rising edge.
    template <bool MEMORY = true>
    void finish() {
        Vmodel& pins = *m_model;
        if (MEMORY) {
            sample();
            if (lockstep.on) lockstep.sample(pins.retire);
            if (unsigned units = pins.retire) {
                m_active = cycle;
                for (unsigned unit = 0; units; ++unit, units >>= 1) {
                    if (units & 1) retired.push_back({cycle - origin, unit, 0});
                }
            }
        }
        ++cycle;
        pins.clk = 1;
        pins.eval();
        dump(0);
    }

    void sample() {
        Vmodel& pins = *m_model;
        m_master.arvalid = pins.m_axi_arvalid;
        m_master.rready = pins.m_axi_rready;
        m_master.awvalid = pins.m_axi_awvalid;
        m_master.wvalid = pins.m_axi_wvalid;
        m_master.bready = pins.m_axi_bready;
        if (m_master.arvalid) {
            m_master.ar = {pins.m_axi_araddr, pins.m_axi_arlen, pins.m_axi_arsize,
                           pins.m_axi_arburst, pins.m_axi_arid};
        }
        if (m_master.awvalid) {
            m_master.aw = {pins.m_axi_awaddr, pins.m_axi_awlen, pins.m_axi_awsize,
                           pins.m_axi_awburst, pins.m_axi_awid};
        }
        if (m_master.wvalid) {
            get(pins.m_axi_wdata, m_master.w.data);
            m_master.w.strobe = pins.m_axi_wstrb;
            m_master.w.last = pins.m_axi_wlast;
        }
        memory.sample(cycle, m_master);
        if (memory.moved) m_active = cycle;
    }

    uint64_t m_active = 0, m_flip_after = 0, m_flip_at = weft::NEVER;
    uint8_t* m_flipped = nullptr;
    uint8_t m_flip = 0;
    weft::Master<BYTES> m_master{};
};

}  // namespace

#define WEFT_API extern "C" __attribute__((visibility("default")))

WEFT_API void* weft_create(int random_seed) { return new Machine(random_seed); }

WEFT_API void weft_destroy(Machine* m) { delete m; }

WEFT_API int weft_trace(Machine* m, const char* path) { return m->trace(path); }

WEFT_API int weft_lockstep(Machine* m, const uint64_t* sizes) { return m->follow(sizes); }

WEFT_API uint64_t weft_digests(Machine* m, unsigned unit, const uint64_t** out) {
    *out = m->lockstep.digests[unit].data();
    return m->lockstep.digests[unit].size();
}

WEFT_API uint64_t weft_writes(Machine* m, const weft::Written** out) {
    *out = m->lockstep.log.data();
    return m->lockstep.log.size();
}

// Where the library was built for it: write what was covered so far.
WEFT_API void weft_coverage(Machine* m, const char* path) { m->coverage(path); }

WEFT_API void weft_flush(Machine* m) { m->flush(); }

WEFT_API void weft_options(Machine* m, const weft::Options* options) {
    m->memory.options = *options;
}

WEFT_API void weft_reset(Machine* m, unsigned cycles) { m->reset(cycles); }

WEFT_API void weft_unmap(Machine* m) { m->memory.unmap(); }

WEFT_API void weft_map(Machine* m, uint64_t base, uint8_t* data, uint64_t size) {
    m->memory.map(base, data, size);
}

WEFT_API void weft_window(Machine* m, uint64_t base, uint64_t size, int writable) {
    m->memory.window(base, size, writable);
}

WEFT_API const char* weft_escape(Machine* m) { return m->memory.escape.c_str(); }

WEFT_API int weft_write(Machine* m, uint32_t address, uint32_t value, unsigned strobes,
                        uint64_t limit, int start) {
    return m->write(address, value, strobes, limit, start);
}

WEFT_API int64_t weft_read(Machine* m, uint32_t address, uint64_t limit) {
    return m->read(address, limit);
}

WEFT_API int weft_run(Machine* m, uint64_t limit, uint64_t patience, int strict) {
    return m->run(limit, patience, strict);
}

WEFT_API void weft_idle(Machine* m, uint64_t cycles) { m->idle(cycles); }

WEFT_API uint64_t weft_cycle(Machine* m) { return m->cycle - m->origin; }

WEFT_API int64_t weft_written(Machine* m) { return m->memory.written; }

WEFT_API int weft_answered(Machine* m) { return m->memory.idle(); }

WEFT_API const char* weft_violation(Machine* m) { return m->memory.violation.c_str(); }

WEFT_API uint64_t weft_retired(Machine* m, const weft::Event** out) {
    *out = m->retired.data();
    return m->retired.size();
}

WEFT_API uint64_t weft_traffic(Machine* m, const weft::Event** out) {
    *out = m->memory.traffic.data();
    return m->memory.traffic.size();
}

WEFT_API uint64_t weft_state(Machine* m) { return m->state.size(); }

WEFT_API const char* weft_element(Machine* m, uint64_t index, uint64_t* bits, uint64_t* words) {
    const Element& element = m->state[index];
    *bits = element.bits;
    *words = element.words;
    return element.name.c_str();
}

// The words of an element, `stride` bytes apart, least significant byte first.
WEFT_API const uint8_t* weft_contents(Machine* m, uint64_t index, uint64_t* stride) {
    *stride = m->state[index].stride;
    return m->state[index].data;
}

WEFT_API int weft_bit(Machine* m, uint64_t index, uint64_t word, uint64_t bit) {
    const Element& element = m->state[index];
    return element.data[word * element.stride + bit / 8] >> (bit % 8) & 1;
}

WEFT_API void weft_invert(Machine* m, uint64_t index, uint64_t word, uint64_t bit) {
    const Element& element = m->state[index];
    element.data[word * element.stride + bit / 8] ^= uint8_t(1u << (bit % 8));
}

WEFT_API void weft_flip(Machine* m, uint64_t at, uint64_t index, uint64_t word, uint64_t bit) {
    m->flip(at, m->state[index], word, bit);
}
