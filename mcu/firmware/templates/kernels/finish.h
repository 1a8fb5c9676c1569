/* How a layer's sums become output values: rescaled by the channel, offset, clamped. */
#ifndef FINISH_H
#define FINISH_H

#include <string.h>

#include "arithmetic.h"
#include "kernels.h"

#define INLINE static inline __attribute__((always_inline))
#define OUTLINE static __attribute__((noinline))

#if defined(__ARM_FEATURE_DSP) && !defined(__ARM_FEATURE_MVE)

/* Offset and bounds are in both halves of a word. */
typedef struct {
    const FLASH int32_t *multiplier;
    const FLASH int8_t *shift;
    uint32_t offset, low, high;
} finish_t;

static inline finish_t finish_of(const convolution_t *layer)
{
    const finish_t rule = {layer->multiplier, layer->shift, pair(layer->out_offset), pair(layer->out_min),
                           pair(layer->out_max)};
    return rule;
}

/* Two rescaled sums as output values, in the halves of a word. */
static inline uint32_t settle(const finish_t *rule, int32_t a, int32_t b)
{
    const uint32_t values = add_halves(pack(saturate(a), saturate(b)), rule->offset);
    return smaller_halves(larger_halves(values, rule->low), rule->high);
}

static inline int32_t rescaled(const finish_t *rule, index_t channel, int32_t sum)
{
    return rescale(sum, rule->multiplier[channel], rule->shift[channel]);
}

static inline int8_t finish(const finish_t *rule, index_t channel, int32_t sum)
{
    return (int8_t)settle(rule, rescaled(rule, channel, sum), 0);
}

/* The same channel at two positions. */
static inline void finish_both(const finish_t *rule, index_t channel, int32_t sum, int32_t sum_next,
                               int8_t *output, int8_t *output_next)
{
    const int32_t multiplier = rule->multiplier[channel], shift = rule->shift[channel];
    const uint32_t values = settle(rule, rescale(sum, multiplier, shift), rescale(sum_next, multiplier, shift));
    *output = (int8_t)values;
    *output_next = (int8_t)(values >> 16);
}

/* Four channels at one position. */
static inline void finish_four(const finish_t *rule, index_t channel, const int32_t sum[4], int8_t *output)
{
    const uint32_t even = settle(rule, rescaled(rule, channel, sum[0]), rescaled(rule, channel + 2, sum[2]));
    const uint32_t odd = settle(rule, rescaled(rule, channel + 1, sum[1]), rescaled(rule, channel + 3, sum[3]));
    const uint32_t bytes = (even & 0x00FF00FFU) | ((odd & 0x00FF00FFU) << 8);
    (void)memcpy(output, &bytes, sizeof bytes);
}

#else

typedef struct {
    const FLASH int32_t *multiplier;
    const FLASH int8_t *shift;
    index_t offset, low, high;
} finish_t;

static inline finish_t finish_of(const convolution_t *layer)
{
    const finish_t rule = {layer->multiplier, layer->shift, layer->out_offset, layer->out_min, layer->out_max};
    return rule;
}

static inline int8_t finish(const finish_t *rule, index_t channel, int32_t sum)
{
    const int32_t value = rescale(sum, rule->multiplier[channel], rule->shift[channel]) + rule->offset;
    return (int8_t)clamp(value, rule->low, rule->high);
}

/* The same channel at two positions. */
static inline void finish_both(const finish_t *rule, index_t channel, int32_t sum, int32_t sum_next,
                               int8_t *output, int8_t *output_next)
{
    const int8_t value = finish(rule, channel, sum), value_next = finish(rule, channel, sum_next);
    *output = value;
    *output_next = value_next;
}

/* Four channels at one position. */
static inline void finish_four(const finish_t *rule, index_t channel, const int32_t sum[4], int8_t *output)
{
    for (index_t lane = 0; lane < 4; ++lane) {
        output[lane] = finish(rule, channel + lane, sum[lane]);
    }
}

#endif

#if defined(__ARM_FEATURE_MVE)
#include "finish_mve.h"
#endif
#endif
