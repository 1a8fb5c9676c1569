/* Fixed-point arithmetic of the int8 scheme (Jacob et al., CVPR 2018), rounding as TensorFlow Lite Micro does:
 * once in the high half of the product, once in the division by a power of two.
 *
 * Right shifts of negative values are arithmetic on every compiler this code is built with (GCC documents it).
 */
#ifndef ARITHMETIC_H
#define ARITHMETIC_H

#include <stdint.h>

#if defined(__ARM_FEATURE_DSP)
#include "dsp.h"
#endif

#define LIKELY(condition) (__builtin_expect((condition), 1) != 0)

static inline int32_t clamp(int32_t value, int32_t low, int32_t high)
{
    const int32_t raised = (value < low) ? low : value;
    return (raised > high) ? high : raised;
}

static inline int32_t minimum(int32_t a, int32_t b)
{
    return (a < b) ? a : b;
}

static inline int32_t maximum(int32_t a, int32_t b)
{
    return (a > b) ? a : b;
}

/* (a * b) / 2^31 to the nearest, halves upwards. b is never negative, so that the result always fits. */
static inline int32_t high_product(int32_t a, int32_t b)
{
    return (int32_t)((((int64_t)a * (int64_t)b) + ((int64_t)1 << 30)) >> 31);
}

/* value / 2^exponent to the nearest, halves away from zero; exponent 0 to 31. */
static inline int32_t divide_by_power(int32_t value, int32_t exponent)
{
    const int32_t mask = (int32_t)(((uint32_t)1 << (uint32_t)exponent) - 1U);
    const int32_t threshold = (mask >> 1) + ((value < 0) ? 1 : 0);
    return (value >> exponent) + (((value & mask) > threshold) ? 1 : 0);
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
static inline int32_t rescale(int32_t value, int32_t multiplier, int32_t shift)
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
