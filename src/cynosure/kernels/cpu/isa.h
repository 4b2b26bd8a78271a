// Which instructions a file may use, and which variant of the kernels runs. Knows nothing of any kernel.
//
// A file named *_kernels.cpp is compiled once per variant, with the variant's flags and with
//
//   CYN_VARIANT   its namespace: portable, avx2, avx512 or amx
//   CYN_LEVEL     the same as a number, for `#if CYN_LEVEL >= CYN_AVX512`
//
// Each variant has all instructions of those below it. avx2 means AVX2, FMA and F16C; avx512 means F, BW, DQ,
// VL, VNNI and BF16; amx means VBMI and tiles for bf16 and int8. All other files are compiled once, for any processor.
//
// A kernel file hands its functions on in one table:
//
//   x_table.h      struct XTable { void (*run)(const XCall&); };   CYN_DECLARE_TABLE(XTable, x_table)
//   x_kernels.cpp  namespace cynosure::CYN_VARIANT { const XTable x_table = {run}; }
//   x_api.cpp      const XTable& table = CYN_SELECT(x_table);
//
// Kernel files define their functions `static` and use no templates or inline functions of the standard
// library: the linker keeps one copy of each, and it might keep the one that was compiled for AVX-512.
#pragma once

#define CYN_PORTABLE 0
#define CYN_AVX2 1
#define CYN_AVX512 2
#define CYN_AMX 3

namespace cynosure {

constexpr int kNumVariants = 4;

// The variant in use; never one that this processor cannot run.
int active_variant();

}  // namespace cynosure

// The compiler of this build may not know every variant: CYN_HAS_* are given to the files compiled once.
#ifdef CYN_HAS_AVX2
#define CYN_DECLARE_AVX2(Table, name) namespace avx2 { extern const Table name; }
#define CYN_PICK_AVX2(name) cynosure::avx2::name
#else
#define CYN_DECLARE_AVX2(Table, name)
#define CYN_PICK_AVX2(name) cynosure::portable::name
#endif
#ifdef CYN_HAS_AVX512
#define CYN_DECLARE_AVX512(Table, name) namespace avx512 { extern const Table name; }
#define CYN_PICK_AVX512(name) cynosure::avx512::name
#else
#define CYN_DECLARE_AVX512(Table, name)
#define CYN_PICK_AVX512(name) CYN_PICK_AVX2(name)
#endif
#ifdef CYN_HAS_AMX
#define CYN_DECLARE_AMX(Table, name) namespace amx { extern const Table name; }
#define CYN_PICK_AMX(name) cynosure::amx::name
#else
#define CYN_DECLARE_AMX(Table, name)
#define CYN_PICK_AMX(name) CYN_PICK_AVX512(name)
#endif

// In a kernel file the table of its own variant is declared; in the others, all that were compiled.
#ifdef CYN_VARIANT
#define CYN_DECLARE_TABLE(Table, name) \
  namespace cynosure { namespace CYN_VARIANT { extern const Table name; } }
#else
#define CYN_DECLARE_TABLE(Table, name)                   \
  namespace cynosure {                                   \
  namespace portable { extern const Table name; }        \
  CYN_DECLARE_AVX2(Table, name)                          \
  CYN_DECLARE_AVX512(Table, name)                        \
  CYN_DECLARE_AMX(Table, name)                           \
  }
#endif

#define CYN_SELECT(name)                                                         \
  (cynosure::active_variant() == CYN_AMX      ? CYN_PICK_AMX(name)               \
   : cynosure::active_variant() == CYN_AVX512 ? CYN_PICK_AVX512(name)            \
   : cynosure::active_variant() == CYN_AVX2   ? CYN_PICK_AVX2(name)              \
                                              : cynosure::portable::name)

// What the library shows to its callers; everything else stays inside.
#define CYN_API extern "C" __attribute__((visibility("default")))
