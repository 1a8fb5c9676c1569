/* The vector forms of finish.h. */
#ifndef FINISH_MVE_H
#define FINISH_MVE_H

#include <arm_mve.h>

/* Four sums as output values. As rescale() of arithmetic.h: a doubled high product with rounding, then a rounding shift,
 * before which negative values are lowered so that their halves round away. */
static inline int32x4_t settle(const finish_t *rule, int32x4_t sum, int32x4_t multiplier, int32x4_t shift)
{
    const int32x4_t zero = vdupq_n_s32(0);
    const int32x4_t right = vminq_s32(shift, zero);
    const int32x4_t product = vqrdmulhq_s32(vshlq_s32(sum, vmaxq_s32(shift, zero)), multiplier);
    const int32x4_t lowered = vaddq_s32(product, vshrq_n_s32(vandq_s32(product, right), 31));
    const int32x4_t value = vaddq_n_s32(vrshlq_s32(lowered, right), rule->offset);
    return vminq_s32(vmaxq_s32(value, vdupq_n_s32(rule->low)), vdupq_n_s32(rule->high));
}

/* Four channels at one position. */
static inline void finish_vector(const finish_t *rule, int32_t channel, int32x4_t sum, int8_t *output)
{
    const int32x4_t multiplier = vldrwq_s32(&rule->multiplier[channel]), shift = vldrbq_s32(&rule->shift[channel]);
    vstrbq_s32(output, settle(rule, sum, multiplier, shift));
}

/* Up to four channels at one position: those of `lanes`. */
static inline void finish_lanes(const finish_t *rule, int32_t channel, int32x4_t sum, mve_pred16_t lanes,
                                int8_t *output)
{
    const int32x4_t multiplier = vldrwq_z_s32(&rule->multiplier[channel], lanes);
    const int32x4_t shift = vldrbq_z_s32(&rule->shift[channel], lanes);
    vstrbq_p_s32(output, settle(rule, sum, multiplier, shift), lanes);
}

/* Two channels at two positions: sum[0], sum[1] at the first. */
static inline void finish_square(const finish_t *rule, int32_t channel, int32_t second, const int32_t sum[4],
                                 int8_t *output, int8_t *output_next)
{
    const int32_t a = rule->multiplier[channel], b = rule->multiplier[second];
    const int32_t c = rule->shift[channel], d = rule->shift[second];
    const int32x4_t sums = {sum[0], sum[1], sum[2], sum[3]}, multiplier = {a, b, a, b}, shift = {c, d, c, d};
    const int32x4_t values = settle(rule, sums, multiplier, shift);
    output[channel] = (int8_t)values[0];
    output[second] = (int8_t)values[1];
    output_next[channel] = (int8_t)values[2];
    output_next[second] = (int8_t)values[3];
}

#endif
