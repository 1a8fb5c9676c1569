/* The vector forms of finish.h. */
#ifndef FINISH_MVE_H
#define FINISH_MVE_H

#include <arm_mve.h>
#include <stdbool.h>

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

/* Bounds that take a register while they are needed, where all others hold values. */
#define CLAMP(width)                                                                       \
    __asm("vdup." width " %q[bound], %[low]\n\t"                                           \
          "vmax.s" width " %q[value], %q[value], %q[bound]\n\t"                            \
          "vdup." width " %q[bound], %[high]\n\t"                                          \
          "vmin.s" width " %q[value], %q[value], %q[bound]"                                \
          : [value] "+&w"(value), [bound] "=&w"(bound)                                     \
          : [low] "r"(low), [high] "r"(high))

static inline int16x8_t clamp_halves(int16x8_t halves, int32_t low, int32_t high)
{
    int16x8_t value = halves, bound;
    CLAMP("16");
    return value;
}

static inline int32x4_t clamp_words(int32x4_t words, int32_t low, int32_t high)
{
    int32x4_t value = words, bound;
    CLAMP("32");
    return value;
}

/* Whether all of a layer's shifts are to the right. */
static inline bool shifts_right(const convolution_t *layer)
{
    int32_t most = INT8_MIN;
    for (int32_t channel = 0; channel < layer->out_c; channel += 16) {
        const mve_pred16_t lanes = vctp8q((uint32_t)(layer->out_c - channel));
        most = vmaxvq_p_s8((int8_t)most, vldrbq_z_s8(&layer->shift[channel], lanes), lanes);
    }
    return most < 0;
}

/* Up to four channels at one position: those of `lanes`. */
static inline void finish_lanes(const finish_t *rule, int32_t channel, int32x4_t sum, mve_pred16_t lanes,
                                int8_t *output)
{
    const int32x4_t multiplier = vldrwq_z_s32(&rule->multiplier[channel], lanes);
    const int32x4_t shift = vldrbq_z_s32(&rule->shift[channel], lanes);
    vstrbq_p_s32(output, settle(rule, sum, multiplier, shift), lanes);
}

static inline int32x4_t four(const int32_t values[4])
{
    int32x4_t vector;
    __asm("vmov %q0[2], %q0[0], %1, %2\n\tvmov %q0[3], %q0[1], %3, %4"
          : "=&w"(vector)
          : "r"(values[0]), "r"(values[2]), "r"(values[1]), "r"(values[3]));
    return vector;
}

/* Four sums of a channel as output values. */
static inline int32x4_t settle_channel(const finish_t *rule, int32_t multiplier, int32_t shift, int32x4_t sum)
{
    int32x4_t value;
    if (LIKELY(shift < 0)) {
        const int32x4_t product = vqrdmulhq_n_s32(sum, multiplier);
        value = vrshlq_n_s32(vaddq_s32(product, vshrq_n_s32(product, 31)), shift);
    } else {
        value = vqrdmulhq_n_s32(vshlq_r_s32(sum, shift), multiplier);
    }
    value = vaddq_n_s32(value, rule->offset);
    return vminq_s32(vmaxq_s32(value, vdupq_n_s32(rule->low)), vdupq_n_s32(rule->high));
}

/* A channel at four positions, which are `places` in the output. */
static inline void finish_positions(const finish_t *rule, int32_t channel, int32x4_t sum, uint32x4_t places,
                                    int8_t *output)
{
    const int32x4_t value = settle_channel(rule, rule->multiplier[channel], rule->shift[channel], sum);
    vstrbq_scatter_offset_s32(output, places, value);
}

#endif
