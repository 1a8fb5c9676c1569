/* The inner loops: multiply-accumulate runs of int8 values, in the widest form the core offers.
 *
 * multiply_2x2: two windows of the input times two output channels, so that every load and every widening of
 * an operand serves two products. sum[0], sum[1]: first window; sum[2], sum[3]: second window.
 * multiply_1x2: one window times two output channels.
 * `offset` is added to every input value; with it a clipped tap is a tap that adds nothing.
 */
#ifndef MULTIPLY_H
#define MULTIPLY_H

#include <stdint.h>

#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>

/* Sixteen products an instruction; the offset is applied at the end, to the sum of the weights. */
static inline void multiply_2x2(const int8_t *x0, const int8_t *x1, const int8_t *w0, const int8_t *w1,
                                int32_t count, int32_t offset, int32_t sum[4])
{
    int32_t s00 = sum[0], s01 = sum[1], s10 = sum[2], s11 = sum[3];
    int32_t weights0 = 0, weights1 = 0;
    int32_t at = 0;
    for (int32_t left = count; left > 0; left -= 16) {
        const mve_pred16_t lanes = vctp8q((uint32_t)left);
        const int8x16_t b0 = vldrbq_z_s8(&w0[at], lanes);
        const int8x16_t b1 = vldrbq_z_s8(&w1[at], lanes);
        const int8x16_t a0 = vldrbq_z_s8(&x0[at], lanes);
        const int8x16_t a1 = vldrbq_z_s8(&x1[at], lanes);
        s00 = vmladavaq_s8(s00, a0, b0);
        s01 = vmladavaq_s8(s01, a0, b1);
        s10 = vmladavaq_s8(s10, a1, b0);
        s11 = vmladavaq_s8(s11, a1, b1);
        weights0 = vaddvaq_s8(weights0, b0);
        weights1 = vaddvaq_s8(weights1, b1);
        at += 16;
    }
    sum[0] = s00 + (offset * weights0);
    sum[1] = s01 + (offset * weights1);
    sum[2] = s10 + (offset * weights0);
    sum[3] = s11 + (offset * weights1);
}

static inline void multiply_1x2(const int8_t *x, const int8_t *w0, const int8_t *w1, int32_t count,
                                int32_t offset, int32_t sum[2])
{
    int32_t s0 = sum[0], s1 = sum[1];
    int32_t weights0 = 0, weights1 = 0;
    int32_t at = 0;
    for (int32_t left = count; left > 0; left -= 16) {
        const mve_pred16_t lanes = vctp8q((uint32_t)left);
        const int8x16_t b0 = vldrbq_z_s8(&w0[at], lanes);
        const int8x16_t b1 = vldrbq_z_s8(&w1[at], lanes);
        const int8x16_t a = vldrbq_z_s8(&x[at], lanes);
        s0 = vmladavaq_s8(s0, a, b0);
        s1 = vmladavaq_s8(s1, a, b1);
        weights0 = vaddvaq_s8(weights0, b0);
        weights1 = vaddvaq_s8(weights1, b1);
        at += 16;
    }
    sum[0] = s0 + (offset * weights0);
    sum[1] = s1 + (offset * weights1);
}

#else

#if defined(__ARM_FEATURE_DSP)
#include "dsp.h"

#define BLOCK 4

/* Four values, two products an instruction. Bytes 0 and 2, then 1 and 3, are widened to pairs of halfwords. */
static inline void block_2x2(const int8_t *x0, const int8_t *x1, const int8_t *w0, const int8_t *w1,
                             uint32_t offsets, int32_t sum[4])
{
    const uint32_t a0 = load_four(x0), a1 = load_four(x1);
    const uint32_t b0 = load_four(w0), b1 = load_four(w1);
    const uint32_t a0_even = widen_even_add(offsets, a0), a1_even = widen_even_add(offsets, a1);
    const uint32_t b0_even = widen_even(b0), b1_even = widen_even(b1);
    sum[0] = multiply_pairs(a0_even, b0_even, sum[0]);
    sum[1] = multiply_pairs(a0_even, b1_even, sum[1]);
    sum[2] = multiply_pairs(a1_even, b0_even, sum[2]);
    sum[3] = multiply_pairs(a1_even, b1_even, sum[3]);
    const uint32_t a0_odd = widen_odd_add(offsets, a0), a1_odd = widen_odd_add(offsets, a1);
    const uint32_t b0_odd = widen_odd(b0), b1_odd = widen_odd(b1);
    sum[0] = multiply_pairs(a0_odd, b0_odd, sum[0]);
    sum[1] = multiply_pairs(a0_odd, b1_odd, sum[1]);
    sum[2] = multiply_pairs(a1_odd, b0_odd, sum[2]);
    sum[3] = multiply_pairs(a1_odd, b1_odd, sum[3]);
}

static inline void block_1x2(const int8_t *x, const int8_t *w0, const int8_t *w1, uint32_t offsets,
                             int32_t sum[2])
{
    const uint32_t a = load_four(x), b0 = load_four(w0), b1 = load_four(w1);
    const uint32_t a_even = widen_even_add(offsets, a), a_odd = widen_odd_add(offsets, a);
    sum[0] = multiply_pairs(a_even, widen_even(b0), sum[0]);
    sum[1] = multiply_pairs(a_even, widen_even(b1), sum[1]);
    sum[0] = multiply_pairs(a_odd, widen_odd(b0), sum[0]);
    sum[1] = multiply_pairs(a_odd, widen_odd(b1), sum[1]);
}

#endif

static inline void multiply_2x2(const int8_t *x0, const int8_t *x1, const int8_t *w0, const int8_t *w1,
                                int32_t count, int32_t offset, int32_t sum[4])
{
    const int8_t *const end = x0 + count;
    int32_t s[4] = {sum[0], sum[1], sum[2], sum[3]};
#if defined(BLOCK)
    const int8_t *const blocks_end = end - (count % BLOCK);
    const uint32_t offsets = pair(offset);
    while (x0 != blocks_end) {
        block_2x2(x0, x1, w0, w1, offsets, s);
        x0 += BLOCK;
        x1 += BLOCK;
        w0 += BLOCK;
        w1 += BLOCK;
    }
#endif
    while (x0 != end) {
        const int32_t a0 = *x0 + offset, a1 = *x1 + offset;
        const int32_t b0 = *w0, b1 = *w1;
        s[0] += a0 * b0;
        s[1] += a0 * b1;
        s[2] += a1 * b0;
        s[3] += a1 * b1;
        ++x0;
        ++x1;
        ++w0;
        ++w1;
    }
    sum[0] = s[0];
    sum[1] = s[1];
    sum[2] = s[2];
    sum[3] = s[3];
}

static inline void multiply_1x2(const int8_t *x, const int8_t *w0, const int8_t *w1, int32_t count,
                                int32_t offset, int32_t sum[2])
{
    const int8_t *const end = x + count;
    int32_t s[2] = {sum[0], sum[1]};
#if defined(BLOCK)
    const int8_t *const blocks_end = end - (count % BLOCK);
    const uint32_t offsets = pair(offset);
    while (x != blocks_end) {
        block_1x2(x, w0, w1, offsets, s);
        x += BLOCK;
        w0 += BLOCK;
        w1 += BLOCK;
    }
#endif
    while (x != end) {
        const int32_t a = *x + offset;
        s[0] += a * *w0;
        s[1] += a * *w1;
        ++x;
        ++w0;
        ++w1;
    }
    sum[0] = s[0];
    sum[1] = s[1];
}

#endif
#endif
