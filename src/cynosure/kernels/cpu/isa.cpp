#include "isa.h"

#include <atomic>
#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace cynosure {
namespace {

// What the compiler of this build knew.
constexpr bool kIsCompiled[kNumVariants] = {
    true,
#ifdef CYN_HAS_AVX2
    true,
#else
    false,
#endif
#ifdef CYN_HAS_AVX512
    true,
#else
    false,
#endif
#ifdef CYN_HAS_AMX
    true,
#else
    false,
#endif
};

std::atomic<int> chosen{CYN_PORTABLE};

#if defined(__x86_64__)

struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  Leaf(unsigned leaf, unsigned subleaf) { __get_cpuid_count(leaf, subleaf, &eax, &ebx, &ecx, &edx); }
};

bool has(unsigned word, int bit) { return (word >> bit) & 1U; }

// Registers that the system saves when it switches threads; one that it does not save cannot be used.
std::uint64_t saved_registers() {
  if (!has(Leaf(1, 0).ecx, 27)) return 0;
  std::uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

// The system hands tile registers out once a process asks for them.
bool is_tile_state_granted() {
#if defined(__linux__)
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

const char* missing(int variant) {
  const Leaf one(1, 0), seven(7, 0), more(7, 1);
  const std::uint64_t saved = saved_registers();
  if (variant >= CYN_AVX2) {
    if (!has(seven.ebx, 5)) return "AVX2";
    if (!has(one.ecx, 12) || !has(one.ecx, 29)) return "FMA and F16C";
    if ((saved & 0x6) != 0x6) return "a system that saves AVX registers";
  }
  if (variant >= CYN_AVX512) {
    const bool has_words = has(seven.ebx, 16) && has(seven.ebx, 17) && has(seven.ebx, 30) && has(seven.ebx, 31);
    if (!has_words) return "AVX-512 F, BW, DQ and VL";
    if (!has(seven.ecx, 11)) return "AVX-512 VNNI";
    if (!has(more.eax, 5)) return "AVX-512 BF16";
    if ((saved & 0xe6) != 0xe6) return "a system that saves AVX-512 registers";
  }
  if (variant >= CYN_AMX) {
    if (!has(seven.ecx, 1)) return "AVX-512 VBMI";
    if (!has(seven.edx, 24) || !has(seven.edx, 22) || !has(seven.edx, 25)) return "AMX tiles for bf16 and int8";
    if ((saved & 0x60000) != 0x60000 || !is_tile_state_granted()) return "a system that lends AMX tiles";
  }
  return "";
}

#else

const char* missing(int variant) { return variant == CYN_PORTABLE ? "" : "an x86-64 processor"; }

#endif

}  // namespace

int active_variant() { return chosen.load(std::memory_order_relaxed); }

}  // namespace cynosure

// Whether the compiler of this build knew the variant.
CYN_API int cyn_is_compiled(int variant) {
  return variant >= 0 && variant < cynosure::kNumVariants && cynosure::kIsCompiled[variant];
}

// What the processor or the system lacks for the variant; empty where nothing.
CYN_API const char* cyn_missing(int variant) { return cynosure::missing(variant); }

CYN_API int cyn_active_variant() { return cynosure::active_variant(); }

// Use the variant from now on; 0 where that cannot be.
CYN_API int cyn_use_variant(int variant) {
  if (!cyn_is_compiled(variant) || cynosure::missing(variant)[0] != '\0') return 0;
  cynosure::chosen.store(variant);
  return 1;
}

CYN_API const char* cyn_interface() { return CYN_INTERFACE; }
