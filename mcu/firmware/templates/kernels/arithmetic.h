/* Fixed-point arithmetic of the int8 scheme (Jacob et al., CVPR 2018), rounding as TensorFlow Lite Micro does:
 * once in the high half of the product, once in the division by a power of two.
 *
 * Right shifts of negative values are arithmetic on every compiler this code is built with (GCC documents it).
 */
#ifndef ARITHMETIC_H
#define ARITHMETIC_H

#include "kernels.h"

#if defined(__ARM_FEATURE_DSP)
#include "dsp.h"
#endif

#define LIKELY(condition) (__builtin_expect((condition), 1) != 0)

static inline int32_t clamp(int32_t value, int32_t low, int32_t high)
{
    const int32_t raised = (value < low) ? low : value;
    return (raised > high) ? high : raised;
}

static inline index_t minimum(index_t a, index_t b)
{
    return (a < b) ? a : b;
}

static inline index_t maximum(index_t a, index_t b)
{
    return (a > b) ? a : b;
}

/* value / 2^exponent to the nearest, halves away from zero; exponent 0 to 31. */
static inline int32_t divide_by_power(int32_t value, index_t exponent)
{
    const int32_t mask = (int32_t)(((uint32_t)1 << (uint32_t)exponent) - 1U);
    const int32_t threshold = (mask >> 1) + ((value < 0) ? 1 : 0);
    return (value >> exponent) + (((value & mask) > threshold) ? 1 : 0);
}

/* Functions of their own on an AVR, where they are long. */
#if defined(__AVR__)
#define ARITHMETIC KERNEL
KERNEL int32_t high_product(int32_t a, int32_t b);
KERNEL int32_t rescale(int32_t value, int32_t multiplier, index_t shift);
#else
#define ARITHMETIC static inline
#endif

#if !defined(__AVR__) || defined(ARITHMETIC_C)
/* (a * b) / 2^31 to the nearest, halves upwards; not both are -2^31, so that the result always fits. */
ARITHMETIC int32_t high_product(int32_t a, int32_t b)
{
#if defined(__AVR__) /* whose compiler shifts 64 bits slowly: rounded, then one bit to the left, the high half */
    register int32_t high __asm("r22") = a;
    register int32_t low __asm("r18") = b;
    __asm("%~call __mulsidi3\n\t"
          "subi %D[low], 0xC0\n\t"
          "sbci %A[high], 0xFF\n\t"
          "sbci %B[high], 0xFF\n\t"
          "sbci %C[high], 0xFF\n\t"
          "sbci %D[high], 0xFF\n\t"
          "lsl %D[low]\n\t"
          "rol %A[high]\n\t"
          "rol %B[high]\n\t"
          "rol %C[high]\n\t"
          "rol %D[high]"
          : [high] "+r"(high), [low] "+r"(low)
          :
          : "r0", "r26", "r27", "r30", "r31");
    return high;
#else
    return (int32_t)((((int64_t)a * (int64_t)b) + ((int64_t)1 << 30)) >> 31);
#endif
}

/* 2 * value * multiplier / 2^32, the high product of a value below 2^30 in magnitude. */
static inline int32_t high_product_small(int32_t value, int32_t multiplier)
{
#if defined(__ARM_FEATURE_DSP)
    return multiply_high_word(value * 2, multiplier);
#else
    return high_product(value, multiplier);
#endif
}

/* value * multiplier * 2^(shift - 31), shift -31 to 30. The exporter makes sure that |value| * 2^max(shift, 0) stays
 * below 2^30. */
ARITHMETIC int32_t rescale(int32_t value, int32_t multiplier, index_t shift)
{
    int32_t result;
    if (LIKELY(shift < 0)) {
        const int32_t product = high_product_small(value, multiplier);
        const int32_t lowered = product + (product >> 31); /* halves of negative values then round away */
        result = ((lowered >> (-shift - 1)) + 1) >> 1;
    } else {
        result = high_product_small((int32_t)((uint32_t)value << (uint32_t)shift), multiplier);
    }
    return result;
}
#endif

#endif
