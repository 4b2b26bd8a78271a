// Read memory, and multiply tiles in registers, as fast as a core can. Knows nothing of models.
//
// What `machine_limits.py` divides by: no program reads weights faster than `read_all`, and none multiplies
// faster than tiles that never leave their registers.

#include <cstddef>
#include <cstdint>

#if defined(__AMX_TILE__) && defined(__linux__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

typedef uint64_t Lanes __attribute__((vector_size(64), aligned(64)));

constexpr size_t kAhead = 4096;  // bytes; a page, further than the hardware looks ahead

#if defined(__AMX_TILE__) && defined(__linux__)
struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

bool take_tiles() {
    constexpr long kRequest = 0x1023, kTileData = 18;
    if (syscall(SYS_arch_prctl, kRequest, kTileData) != 0) return false;
    TileShapes shapes;
    // Without it GCC 12 drops the stores to the struct.
    asm volatile("" : : "r"(&shapes) : "memory");
    _tile_loadconfig(&shapes);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    return true;
}
#endif

}  // namespace

// Reads `bytes`, a multiple of 256, from an address that is one of 64.
extern "C" uint64_t read_all(const void* data, size_t bytes) {
    const Lanes* at = static_cast<const Lanes*>(data);
    Lanes a{}, b{}, c{}, d{};
    for (size_t i = 0; i < bytes / sizeof(Lanes); i += 4) {
        const char* ahead = reinterpret_cast<const char*>(at + i) + kAhead;
        for (int line = 0; line < 4; ++line) __builtin_prefetch(ahead + 64 * line);
        a ^= at[i], b ^= at[i + 1], c ^= at[i + 2], d ^= at[i + 3];
    }
    const Lanes all = (a ^ b) ^ (c ^ d);
    return all[0] ^ all[1] ^ all[2] ^ all[3] ^ all[4] ^ all[5] ^ all[6] ^ all[7];
}

// Multiplications and additions of `rounds` times four tile products; 0 where the processor has no tiles.
extern "C" double multiply_bf16(int64_t rounds) {
#if defined(__AMX_BF16__) && defined(__linux__)
    if (!take_tiles()) return 0;
    for (int64_t round = 0; round < rounds; ++round) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
    return 4.0 * rounds * 2 * 16 * 16 * 32;
#else
    return rounds * 0.0;
#endif
}

extern "C" double multiply_int8(int64_t rounds) {
#if defined(__AMX_INT8__) && defined(__linux__)
    if (!take_tiles()) return 0;
    for (int64_t round = 0; round < rounds; ++round) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_release();
    return 4.0 * rounds * 2 * 16 * 16 * 64;
#else
    return rounds * 0.0;
#endif
}
