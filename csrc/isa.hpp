// Chooses at run time among versions of an inner loop compiled for different instruction sets.
//
// The library is compiled for the oldest supported processor. An inner loop is written once, as a class with a static function
// `run` marked LNSDK_INLINE; dispatch<Loop>(arguments...) calls the version compiled for the widest vectors that this processor
// has. All versions do the same operations in the same order, so that they agree to the last bit. Other processors than x86
// have one version.
#pragma once

#include <atomic>
#include <cstddef>

#if (defined(__x86_64__) || defined(_M_X64)) && defined(__GNUC__)
#define LNSDK_X86 1
#define LNSDK_TARGET_AVX2 __attribute__((target("avx2")))
#if defined(__clang__)
#define LNSDK_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#else  // GCC would use half of each register
#define LNSDK_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#endif
#else
#define LNSDK_X86 0
#endif

#if defined(__GNUC__)
#define LNSDK_INLINE __attribute__((always_inline)) inline
#define LNSDK_PREFETCH(address, for_writing) __builtin_prefetch(address, for_writing)
#else
#define LNSDK_INLINE __forceinline
#define LNSDK_PREFETCH(address, for_writing) static_cast<void>(address)
#endif

namespace lnsdk {

enum class Isa { baseline, avx2, avx512 };

// The widest that this processor has.
inline Isa best_isa() {
#if LNSDK_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return Isa::avx512;
    if (__builtin_cpu_supports("avx2")) return Isa::avx2;
#endif
    return Isa::baseline;
}

// The one in use: the best, unless a test has chosen a narrower one.
inline std::atomic<Isa>& chosen_isa() {
    static std::atomic<Isa> isa{best_isa()};
    return isa;
}

#if LNSDK_X86
template <class Loop, class... Arguments>
LNSDK_TARGET_AVX2 void run_avx2(Arguments... arguments) {
    Loop::run(arguments...);
}

template <class Loop, class... Arguments>
LNSDK_TARGET_AVX512 void run_avx512(Arguments... arguments) {
    Loop::run(arguments...);
}
#endif

template <class Loop, class... Arguments>
void dispatch(Arguments... arguments) {
#if LNSDK_X86
    const Isa isa = chosen_isa().load(std::memory_order_relaxed);
    if (isa == Isa::avx512) return run_avx512<Loop>(arguments...);
    if (isa == Isa::avx2) return run_avx2<Loop>(arguments...);
#endif
    Loop::run(arguments...);
}

}  // namespace lnsdk
