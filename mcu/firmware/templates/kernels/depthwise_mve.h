/* The inner loop of the depthwise convolution for the vector extension: eight channels in halfword lanes, even and odd
 * ones multiplied into words. The last block starts early enough to be whole; fewer channels are predicated. */
#ifndef DEPTHWISE_MVE_H
#define DEPTHWISE_MVE_H

/* Up to eight channels from `start` on, in memory and in order, at one position. */
static inline void sum_lanes(const window_t *window, const int8_t *weights, int32_t start, bool whole,
                             mve_pred16_t lanes, int32_t sum[8])
{
    const int8_t *x = &window->input[start], *w = &weights[start];
    int32x4x2_t both = {{vdupq_n_s32(0), vdupq_n_s32(0)}};
    for (int32_t band = window->bands; band > 0; --band) {
        for (int32_t run = window->runs; run > 0; --run) {
            const int16x8_t a = whole ? vldrbq_s16(x) : vldrbq_z_s16(x, lanes);
            const int16x8_t b = whole ? vldrbq_s16(w) : vldrbq_z_s16(w, lanes);
            const int16x8_t value = vaddq_n_s16(a, (int16_t)window->offset);
            both.val[0] = vaddq_s32(both.val[0], vmullbq_int_s16(value, b));
            both.val[1] = vaddq_s32(both.val[1], vmulltq_int_s16(value, b));
            x += window->input_run;
            w += window->weight_run;
        }
        x += window->input_band;
        w += window->weight_band;
    }
    vst2q_s32(sum, both);
}

OUTLINE void all_channels(const convolution_t *layer, const window_t *window, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const window_t inside = *window; /* a copy, as for finish_t */
    const int8_t *const weights = &layer->weights[inside.weight];
    const int32_t channels = layer->out_c;
    int32_t sum[8];
    if (channels < 8) {
        sum_lanes(&inside, weights, 0, false, vctp16q((uint32_t)channels), sum);
        for (int32_t channel = 0; channel < channels; channel += 4) {
            const mve_pred16_t lanes = vctp32q((uint32_t)(channels - channel));
            const int32x4_t bias = vldrwq_z_s32(&layer->bias[channel], lanes);
            finish_lanes(&rule, channel, vaddq_s32(vldrwq_s32(&sum[channel]), bias), lanes, &output[channel]);
        }
    }
    for (int32_t channel = 0; (channel < channels) && (channels >= 8); channel += 8) {
        const int32_t start = minimum(channel, channels - 8);
        const int32_t *const bias = &layer->bias[start];
        sum_lanes(&inside, weights, start, true, 0, sum);
        finish_vector(&rule, start, vaddq_s32(vldrwq_s32(sum), vldrwq_s32(bias)), &output[start]);
        finish_vector(&rule, start + 4, vaddq_s32(vldrwq_s32(&sum[4]), vldrwq_s32(&bias[4])), &output[start + 4]);
    }
}

#endif
