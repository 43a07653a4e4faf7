// The AXI4 memory that cycle counts refer to; twin of memory_model.py, cycle by cycle.
//
// In every cycle t: drive(t) decides the slave's outputs from its state alone, then sample(t, ...)
// takes the settled outputs of the master.

#ifndef WEFT_AXI_MEMORY_H
#define WEFT_AXI_MEMORY_H

#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <string>
#include <vector>

namespace weft {

enum Channel { AR, R, AW, W, B, CHANNELS };
enum Response { OKAY = 0, SLVERR = 2, DECERR = 3 };

constexpr uint64_t NEVER = ~uint64_t{0};

// What Python sets, field by field (ctypes structure Options of fast.py).
struct Options {
    uint64_t latency;          // cycles from address to first beat; 0 counts as 1
    uint64_t beat_interval;    // cycles from a beat's handshake to the next; 0 counts as 1
    uint64_t stall_seed;       // 0: no stalls
    uint64_t stall_channels;   // mask of the channels that stall
    uint64_t read_fault;       // number of the read beat that fails, since the origin
    uint64_t read_response;    // with this response
    uint64_t last_fault;       // number of the read beat whose RLAST is wrong
    uint64_t write_fault;      // number of the write burst that fails
    uint64_t write_response;
    uint64_t stop;             // channel that falls silent
    uint64_t after;            // so many of its handshakes after the origin
    uint64_t pause;            // for so many cycles from the one in which the next would have been
    uint64_t log_traffic;      // keep every handshake
};

// One handshake: when, on which channel, and the address, data or response that it carried.
struct Event {
    uint64_t cycle;
    uint64_t channel;
    uint64_t value;
};

struct Address {
    uint64_t addr;
    unsigned len, size, burst, id;
    bool operator==(const Address& o) const {
        return addr == o.addr && len == o.len && size == o.size && burst == o.burst && id == o.id;
    }
};

template <unsigned BYTES>
struct Beat {
    uint8_t data[BYTES];
    uint64_t strobe;
    bool last;
    bool operator==(const Beat& o) const {
        return strobe == o.strobe && last == o.last && std::memcmp(data, o.data, BYTES) == 0;
    }
};

// What the master drives; payloads are meaningful only where their valid is set.
template <unsigned BYTES>
struct Master {
    bool arvalid, rready, awvalid, wvalid, bready;
    Address ar, aw;
    Beat<BYTES> w;
};

inline uint64_t splitmix(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

template <unsigned BYTES>
class AxiMemory {
public:
    // The slave's outputs in this cycle.
    bool arready = true, awready = true, wready = true;
    bool rvalid = false, rlast = false, bvalid = false;
    unsigned rresp = OKAY, bresp = OKAY;
    bool moved = false;  // there was a handshake in the cycle last sampled
    int64_t written = -1;  // when the latest write beat with strobes was first offered
    uint8_t rdata[BYTES] = {};

    std::function<void(uint64_t, const Beat<BYTES>&)> on_write;  // told each beat that is written
    Options options{1, 1, 0, NEVER, NEVER, 0, NEVER, NEVER, 0, NEVER, 0, NEVER, 0};
    std::vector<Event> traffic;
    std::string violation;  // first breach of the protocol by the master
    std::string escape;     // first burst outside the windows

    // A range that bursts must lie in, rounded up to beats; without any, they may go anywhere.
    void window(uint64_t base, uint64_t size, bool writable) {
        m_windows.push_back({base, (size + BYTES - 1) / BYTES * BYTES, writable});
    }

    void map(uint64_t base, uint8_t* data, uint64_t size) { m_regions.push_back({base, data, size}); }

    void unmap() {
        m_regions.clear();
        m_windows.clear();
        escape.clear();
    }

    // Where the first region begins.
    uint64_t base() const { return m_regions.empty() ? 0 : m_regions.front().base; }

    // Forget everything under way; the master must be reset as well.
    void clear() {
        m_reads.clear();
        m_writes.clear();
        m_beats.clear();
        m_responses.clear();
        rvalid = bvalid = false;
        m_held_ar = m_held_aw = m_held_w = false;
        violation.clear();
    }

    // Cycle numbers in the log, stalls, beat intervals and fault numbers count from `cycle`.
    void origin(uint64_t cycle) {
        m_origin = m_next_read = m_next_write = cycle;
        for (uint64_t& count : m_count) count = 0;
        m_stopped = NEVER;
        written = -1;
        traffic.clear();
    }

    // No transfer is under way: whatever was asked is answered.
    bool idle() const {
        return m_reads.empty() && m_writes.empty() && m_beats.empty() && m_responses.empty()
               && !(m_held_ar || m_held_aw || m_held_w);
    }

    void drive(uint64_t t) {
        unsigned stalled = options.stall_seed ? stalls(t - m_origin) & options.stall_channels : 0;
        arready = !(stalled >> AR & 1) && !withheld(AR, t, false);
        awready = !(stalled >> AW & 1) && !withheld(AW, t, false);
        wready = !(stalled >> W & 1) && t >= m_next_write && !withheld(W, t, false);
        if (!rvalid && !(stalled >> R & 1) && !m_reads.empty() && m_reads.front().due <= t
            && t >= m_next_read && !withheld(R, t, true)) {
            present_read();
        }
        if (!bvalid && !(stalled >> B & 1) && !m_responses.empty() && m_responses.front().due <= t
            && !withheld(B, t, true)) {
            bvalid = true;
            bresp = m_responses.front().resp;
            if (m_count[B] == options.write_fault) bresp = options.write_response;
        }
    }

    void sample(uint64_t t, const Master<BYTES>& master) {
        const uint64_t due = t + (options.latency ? options.latency : 1);
        const uint64_t next = t + (options.beat_interval ? options.beat_interval : 1);
        moved = false;
        if (rvalid && master.rready) {
            uint64_t value;
            std::memcpy(&value, rdata, sizeof value);
            log(t, R, value);
            rvalid = false;
            m_next_read = next;
            Read& read = m_reads.front();
            read.addr += BYTES;
            if (--read.beats == 0) m_reads.pop_front();
        }
        if (bvalid && master.bready) {
            log(t, B, bresp);
            bvalid = false;
            m_responses.pop_front();
        }
        if (master.arvalid || m_held_ar) {
            if (!arready) withheld(AR, t, true);
            hold("AR", t, m_held_ar, m_old_ar, master.arvalid, arready, master.ar);
            if (master.arvalid && arready) {
                check("AR", t, master.ar);
                confine("AR", t, master.ar, false);
                log(t, AR, master.ar.addr);
                m_reads.push_back({master.ar.addr, master.ar.len + 1, due});
            }
        }
        if (master.awvalid || m_held_aw) {
            if (!awready) withheld(AW, t, true);
            hold("AW", t, m_held_aw, m_old_aw, master.awvalid, awready, master.aw);
            if (master.awvalid && awready) {
                check("AW", t, master.aw);
                confine("AW", t, master.aw, true);
                log(t, AW, master.aw.addr);
                m_writes.push_back({master.aw.addr, master.aw.len + 1, OKAY});
            }
        }
        if (!m_held_w) m_offered = t - m_origin;
        if (master.wvalid || m_held_w) {
            if (!wready) withheld(W, t, true);
            hold("W", t, m_held_w, m_old_w, master.wvalid, wready, master.w);
            if (master.wvalid && wready) {
                uint64_t value;
                std::memcpy(&value, master.w.data, sizeof value);
                log(t, W, value);
                m_next_write = next;
                m_beats.push_back(master.w);
                if (master.w.strobe) written = m_offered;
            }
        }
        while (!m_beats.empty() && !m_writes.empty()) write(t, due);
    }

private:
    struct Region {
        uint64_t base;
        uint8_t* data;
        uint64_t size;
    };
    struct Window {
        uint64_t base, size;
        bool writable;
    };
    struct Read {
        uint64_t addr;
        unsigned beats;
        uint64_t due;
    };
    struct Write {
        uint64_t addr;
        unsigned beats;
        unsigned resp;
    };
    struct Answer {
        uint64_t due;
        unsigned resp;
    };

    std::vector<Region> m_regions;
    std::vector<Window> m_windows;
    std::deque<Read> m_reads;
    std::deque<Write> m_writes;
    std::deque<Beat<BYTES>> m_beats;
    std::deque<Answer> m_responses;
    uint64_t m_next_read = 0, m_next_write = 0;  // cycles from which the next beats may be
    uint64_t m_origin = 0, m_count[CHANNELS] = {}, m_stopped = NEVER;
    int64_t m_offered = 0;
    bool m_held_ar = false, m_held_aw = false, m_held_w = false;
    Address m_old_ar{}, m_old_aw{};
    Beat<BYTES> m_old_w{};

    // Which channels stall: each at random in a cycle, at a rate that changes every 64 cycles.
    unsigned stalls(uint64_t cycle) const {
        static const unsigned rates[4] = {0, 64, 160, 240};
        const uint64_t draw = splitmix(options.stall_seed * 0x100000001B3u + cycle);
        const uint64_t rate = splitmix(~options.stall_seed * 0x100000001B3u + (cycle >> 6));
        unsigned out = 0;
        for (unsigned c = 0; c < CHANNELS; ++c) {
            out |= unsigned((draw >> (8 * c) & 255) < rates[rate >> (8 * c) & 3]) << c;
        }
        return out;
    }

    // Whether the channel is silent; the pause begins when a handshake is wanted.
    bool withheld(Channel channel, uint64_t t, bool wanted) {
        if (options.stop != channel || m_count[channel] < options.after) return false;
        if (wanted && m_stopped == NEVER) m_stopped = t;
        return m_stopped == NEVER || t - m_stopped < options.pause;
    }

    uint8_t* find(uint64_t addr) const {
        for (const Region& region : m_regions) {
            if (addr - region.base < region.size && region.size - (addr - region.base) >= BYTES) {
                return region.data + (addr - region.base);
            }
        }
        return nullptr;
    }

    void present_read() {
        const Read& read = m_reads.front();
        const uint8_t* from = find(read.addr);
        rvalid = true;
        rlast = (read.beats == 1) != (m_count[R] == options.last_fault);
        rresp = from ? OKAY : DECERR;
        if (m_count[R] == options.read_fault) rresp = options.read_response;
        if (from) {
            std::memcpy(rdata, from, BYTES);
        } else {
            std::memset(rdata, 0, BYTES);
        }
    }

    void write(uint64_t t, uint64_t due) {
        Write& burst = m_writes.front();
        const Beat<BYTES>& beat = m_beats.front();
        if (uint8_t* to = find(burst.addr)) {
            for (unsigned i = 0; i < BYTES; ++i) {
                if (beat.strobe >> i & 1) to[i] = beat.data[i];
            }
            if (on_write) on_write(burst.addr, beat);
        } else {
            burst.resp = DECERR;
        }
        burst.addr += BYTES;
        if (beat.last != (--burst.beats == 0)) fail("W", t, "WLAST is not on the burst's last beat");
        if (burst.beats == 0) {
            m_responses.push_back({due, burst.resp});
            m_writes.pop_front();
        }
        m_beats.pop_front();
    }

    template <class Payload>
    void hold(const char* name, uint64_t t, bool& held, Payload& old, bool valid, bool ready,
              const Payload& now) {
        if (held && !valid) fail(name, t, "valid fell before the handshake");
        if (held && valid && !(old == now)) fail(name, t, "the payload changed before the handshake");
        held = valid && !ready;
        if (held) old = now;
    }

    void check(const char* name, uint64_t t, const Address& a) {
        const uint64_t bytes = uint64_t(a.len + 1) * BYTES;
        if (a.addr % BYTES) fail(name, t, "the address is not a multiple of the bus width");
        if ((1u << a.size) != BYTES) fail(name, t, "the size is not the bus width");
        if (a.burst != 1) fail(name, t, "the burst type is not INCR");
        if (a.id != 0) fail(name, t, "the ID is not 0");
        if (a.addr / 4096 != (a.addr + bytes - 1) / 4096) {
            fail(name, t, "the burst crosses a 4 KiB boundary");
        }
    }

    void confine(const char* name, uint64_t t, const Address& a, bool write) {
        const uint64_t bytes = uint64_t(a.len + 1) * BYTES;
        for (const Window& window : m_windows) {
            const uint64_t offset = a.addr - window.base;
            if (offset < window.size && bytes <= window.size - offset && window.writable >= write) return;
        }
        if (m_windows.empty() || !escape.empty()) return;
        escape = std::string(name) + ", cycle " + std::to_string(int64_t(t - m_origin)) + ": " +
                 std::to_string(bytes) + " bytes from " + std::to_string(a.addr);
    }

    void fail(const char* name, uint64_t t, const char* what) {
        if (!violation.empty()) return;
        violation = std::string(name) + ", cycle " + std::to_string(int64_t(t - m_origin)) + ": " + what;
    }

    void log(uint64_t t, Channel channel, uint64_t value) {
        moved = true;
        ++m_count[channel];
        if (options.log_traffic) traffic.push_back({t - m_origin, uint64_t(channel), value});
    }
};

}  // namespace weft

#endif
