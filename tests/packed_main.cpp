// Every pair of weights with every activation through the packed multiplier.

#include "Vmodel.h"
#include "verilated.h"

#include <cstdint>

// How many of the 2^24 results are wrong.
extern "C" __attribute__((visibility("default"))) uint64_t packed_wrong() {
    VerilatedContext context;
    Vmodel model(&context, "top");
    struct Operands {
        int v, w, a;
        bool due;
    } ahead[2] = {};
    uint64_t wrong = 0;
    auto cycle = [&](int v, int w, int a, bool load, bool due) {
        model.a = a & 0xff;
        model.load = load;
        // Without `load` the operand may be anything.
        const unsigned both = load ? v + 512 * w : 77777 * a;
        model.b = (both & 0x3ffff) | (load ? w & 0x3f : a & 0x3f) << 18;
        model.clk = 0;
        model.eval();
        if (ahead[1].due) {
            const int carry = int(model.carry ^ 0x40) - 0x40;
            const int high = int16_t(model.high);
            const Operands& o = ahead[1];
            wrong += model.low + 512 * carry != o.v * o.a || high - carry != o.w * o.a;
        }
        model.clk = 1;
        model.eval();
        ahead[1] = ahead[0];
        ahead[0] = {v, w, a, due};
    };
    model.rst = 0;
    for (int v = -128; v < 128; v++)
        for (int w = -128; w < 128; w++)
            for (int a = -128; a < 128; a++) cycle(v, w, a, a == -128, true);
    for (int k = 0; k < 2; k++) cycle(0, 0, 0, false, false);
    return wrong;
}
