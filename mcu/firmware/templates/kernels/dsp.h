/* The Armv7E-M / Armv8-M DSP instructions the kernels use. A word holds four int8 or two int16 values. */
#ifndef DSP_H
#define DSP_H

#include <stdint.h>
#include <string.h>

/* One word from any address: these cores load unaligned words, and memcpy is how C says so. */
static inline uint32_t load_four(const int8_t *from)
{
    uint32_t word;
    (void)memcpy(&word, from, sizeof word);
    return word;
}

/* The same int16 twice. */
static inline uint32_t pair(int32_t value)
{
    const uint32_t half = (uint32_t)value & 0xFFFFU;
    return half | (half << 16);
}

static inline uint32_t widen_even(uint32_t bytes)
{
    uint32_t halves;
    __asm("sxtb16 %0, %1" : "=r"(halves) : "r"(bytes));
    return halves;
}

static inline uint32_t widen_odd(uint32_t bytes)
{
    uint32_t halves;
    __asm("sxtb16 %0, %1, ror #8" : "=r"(halves) : "r"(bytes));
    return halves;
}

static inline uint32_t widen_even_add(uint32_t halves, uint32_t bytes)
{
    if (__builtin_constant_p(halves) && (halves == 0U)) {
        return widen_even(bytes);
    }
    uint32_t sums;
    __asm("sxtab16 %0, %1, %2" : "=r"(sums) : "r"(halves), "r"(bytes));
    return sums;
}

static inline uint32_t widen_odd_add(uint32_t halves, uint32_t bytes)
{
    if (__builtin_constant_p(halves) && (halves == 0U)) {
        return widen_odd(bytes);
    }
    uint32_t sums;
    __asm("sxtab16 %0, %1, %2, ror #8" : "=r"(sums) : "r"(halves), "r"(bytes));
    return sums;
}

/* sum + low(a) * low(b) + high(a) * high(b) */
static inline int32_t multiply_pairs(uint32_t a, uint32_t b, int32_t sum)
{
    int32_t result;
    __asm("smlad %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

/* sum + low(a) * low(b) */
static inline int32_t multiply_low(uint32_t a, uint32_t b, int32_t sum)
{
    int32_t result;
    __asm("smlabb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

/* sum + high(a) * high(b) */
static inline int32_t multiply_high(uint32_t a, uint32_t b, int32_t sum)
{
    int32_t result;
    __asm("smlatt %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

/* a * b / 2^32 to the nearest, halves upwards. */
static inline int32_t multiply_high_word(int32_t a, int32_t b)
{
    int32_t result;
    __asm("smmulr %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

/* value, no further from zero than an int16 reaches */
static inline int32_t saturate(int32_t value)
{
    int32_t result;
    __asm("ssat %0, #16, %1" : "=r"(result) : "r"(value));
    return result;
}

/* low(a) in the low half, low(b) in the high one */
static inline uint32_t pack(int32_t a, int32_t b)
{
    uint32_t halves;
    __asm("pkhbt %0, %1, %2, lsl #16" : "=r"(halves) : "r"(a), "r"(b));
    return halves;
}

static inline uint32_t add_halves(uint32_t a, uint32_t b)
{
    uint32_t sums;
    __asm("qadd16 %0, %1, %2" : "=r"(sums) : "r"(a), "r"(b));
    return sums;
}

/* Half by half the larger. */
static inline uint32_t larger_halves(uint32_t a, uint32_t b)
{
    uint32_t larger;
    __asm("ssub16 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(larger) : "r"(a), "r"(b));
    return larger;
}

static inline uint32_t smaller_halves(uint32_t a, uint32_t b)
{
    uint32_t smaller;
    __asm("ssub16 %0, %2, %1\n\tsel %0, %1, %2" : "=&r"(smaller) : "r"(a), "r"(b));
    return smaller;
}

#endif
