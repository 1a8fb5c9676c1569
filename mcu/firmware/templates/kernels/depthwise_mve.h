/* The inner loop of the depthwise convolution for the vector extension: eight channels in halfword lanes, even and odd
 * ones multiplied into words; the last block is predicated. */
#ifndef DEPTHWISE_MVE_H
#define DEPTHWISE_MVE_H

OUTLINE void all_channels(const convolution_t *layer, const window_t *window, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const window_t inside = *window; /* a copy, as for finish_t */
    const int8_t *const weights = &layer->weights[inside.weight];
    const int32_t channels = layer->out_c;
    for (int32_t channel = 0; channel < channels; channel += 8) {
        const mve_pred16_t lanes = vctp16q((uint32_t)(channels - channel));
        const int8_t *x = &inside.input[channel], *w = &weights[channel];
        int32x4x2_t sum = {{vdupq_n_s32(0), vdupq_n_s32(0)}};
        for (int32_t band = inside.bands; band > 0; --band) {
            for (int32_t run = inside.runs; run > 0; --run) {
                const int16x8_t a = vaddq_n_s16(vldrbq_z_s16(x, lanes), (int16_t)inside.offset);
                const int16x8_t b = vldrbq_z_s16(w, lanes);
                sum.val[0] = vaddq_s32(sum.val[0], vmullbq_int_s16(a, b));
                sum.val[1] = vaddq_s32(sum.val[1], vmulltq_int_s16(a, b));
                x += inside.input_run;
                w += inside.weight_run;
            }
            x += inside.input_band;
            w += inside.weight_band;
        }
        int32_t ordered[8];
        vst2q_s32(ordered, sum);
        for (int32_t half = 0; (half < 8) && ((channel + half) < channels); half += 4) {
            const int32_t start = channel + half;
            const mve_pred16_t part = vctp32q((uint32_t)(channels - start));
            const int32x4_t total = vaddq_s32(vldrwq_s32(&ordered[half]), vldrwq_z_s32(&layer->bias[start], part));
            finish_lanes(&rule, start, total, part, &output[start]);
        }
    }
}

#endif
