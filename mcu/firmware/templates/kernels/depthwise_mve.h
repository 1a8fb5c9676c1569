/* The inner loop of the depthwise convolution for the vector extension: eight channels in halfword lanes, even and odd
 * ones multiplied into words, at one position or at two. The last block starts early enough to be whole; fewer channels
 * are predicated. */
#ifndef DEPTHWISE_MVE_H
#define DEPTHWISE_MVE_H

#define LANES 8

/* Even and odd channels at a position. */
typedef struct {
    int32x4_t even, odd;
} halves_t;

/* One tap. */
INLINE void add_tap(halves_t *sum, int16x8_t value, int16x8_t weight, int16_t offset)
{
    const int16x8_t moved = vaddq_n_s16(value, offset);
    sum->even = vaddq_s32(sum->even, vmullbq_int_s16(moved, weight));
    sum->odd = vaddq_s32(sum->odd, vmulltq_int_s16(moved, weight));
}

/* In the order of the channels. */
INLINE void store(halves_t sum, int32_t to[LANES])
{
    const uint32x4_t places = vidupq_n_u32(0, 8);
    vstrwq_scatter_offset_s32(to, places, sum.even);
    vstrwq_scatter_offset_s32(&to[1], places, sum.odd);
}

/* Eight channels, at the next position too where there are two. */
INLINE void sum_lanes(const window_t *window, const int8_t *weights, int32_t start, int32_t positions, int32_t next,
                      int32_t sum[2][LANES])
{
    const int8_t *x = &window->input[start], *w = &weights[start], *x_next = &x[next];
    const int16_t offset = (int16_t)window->offset;
    halves_t here = {vdupq_n_s32(0), vdupq_n_s32(0)}, there = here;
    for (int32_t band = window->bands; band > 0; --band) {
        for (int32_t run = window->runs; run > 0; --run) {
            const int16x8_t weight = vldrbq_s16(w);
            add_tap(&here, vldrbq_s16(x), weight, offset);
            if (positions == 2) {
                add_tap(&there, vldrbq_s16(x_next), weight, offset);
                x_next += window->input_run;
            }
            x += window->input_run;
            w += window->weight_run;
        }
        x += window->input_band;
        x_next += window->input_band;
        w += window->weight_band;
    }
    store(here, sum[0]);
    if (positions == 2) {
        store(there, sum[1]);
    }
}

/* From one turn to the next, of input and output; and from a position to the one beside it. */
typedef struct {
    int32_t input, output;
    int32_t next, output_next;
} steps_t;

/* Fewer than eight channels at one position. */
INLINE void few_channels(const convolution_t *layer, const finish_t *rule, const window_t *window, int8_t *output)
{
    const mve_pred16_t within = vctp16q((uint32_t)layer->out_c);
    const int8_t *x = window->input, *w = &layer->weights[window->weight];
    int32_t sum[LANES];
    halves_t here = {vdupq_n_s32(0), vdupq_n_s32(0)};
    for (int32_t band = window->bands; band > 0; --band) {
        for (int32_t run = window->runs; run > 0; --run) {
            add_tap(&here, vldrbq_z_s16(x, within), vldrbq_z_s16(w, within), (int16_t)window->offset);
            x += window->input_run;
            w += window->weight_run;
        }
        x += window->input_band;
        w += window->weight_band;
    }
    store(here, sum);
    for (int32_t channel = 0; channel < layer->out_c; channel += 4) {
        const mve_pred16_t lanes = vctp32q((uint32_t)(layer->out_c - channel));
        const int32x4_t bias = vldrwq_z_s32(&layer->bias[channel], lanes);
        finish_lanes(rule, channel, vaddq_s32(vldrwq_s32(&sum[channel]), bias), lanes, &output[channel]);
    }
}

/* A layer's only channel at some positions, `step` values apart, four at a time. */
INLINE void only_channel(const convolution_t *layer, const finish_t *rule, const window_t *window, int32_t times,
                         int32_t step, int8_t *output)
{
    const int32_t bias = layer->bias[0], multiplier = rule->multiplier[0], shift = rule->shift[0];
    const uint32x4_t places = vmulq_n_u32(vidupq_n_u32(0, 1), (uint32_t)step);
    const int8_t *first = window->input;
    int8_t *out = output;
    for (int32_t left = times; left > 0; left -= 4) {
        const mve_pred16_t lanes = vctp32q((uint32_t)left);
        const int8_t *x = first, *w = &layer->weights[window->weight];
        int32x4_t sum = vdupq_n_s32(bias);
        for (int32_t band = window->bands; band > 0; --band) {
            for (int32_t run = window->runs; run > 0; --run) {
                const int32x4_t value = vldrbq_gather_offset_z_s32(x, places, lanes);
                sum = vmlaq_n_s32(sum, vaddq_n_s32(value, window->offset), *w);
                x += window->input_run;
                w += window->weight_run;
            }
            x += window->input_band;
            w += window->weight_band;
        }
        vstrbq_p_s32(out, settle_channel(rule, multiplier, shift, sum), lanes);
        first = &first[4 * step];
        out = &out[4];
    }
}

INLINE void whole_blocks(const convolution_t *layer, const finish_t *rule, const window_t *window, int32_t positions,
                         int32_t next, int8_t *output, int32_t output_next)
{
    const int8_t *const weights = &layer->weights[window->weight];
    const int32_t channels = layer->out_c;
    int32_t sum[2][LANES];
    for (int32_t channel = 0; channel < channels; channel += LANES) {
        const int32_t start = minimum(channel, channels - LANES);
        sum_lanes(window, weights, start, positions, next, sum);
        for (int32_t half = 0; half < LANES; half += 4) {
            const int32_t at = start + half;
            const int32x4_t multiplier = vldrwq_s32(&rule->multiplier[at]), shift = vldrbq_s32(&rule->shift[at]);
            const int32x4_t bias = vldrwq_s32(&layer->bias[at]);
            for (int32_t place = 0; place < positions; ++place) {
                const int32x4_t value = vaddq_s32(vldrwq_s32(&sum[place][half]), bias);
                vstrbq_s32(&output[(place * output_next) + at], settle(rule, value, multiplier, shift));
            }
        }
    }
}

/* All channels at some positions, `step` values apart. */
OUTLINE void all_channels(const convolution_t *layer, const window_t *window, int32_t times, int32_t step,
                          int8_t *output)
{
    const finish_t rule = finish_of(layer);
    window_t inside = *window; /* a copy, as for finish_t */
    int8_t *out = output;
    if (layer->out_c == 1) {
        only_channel(layer, &rule, &inside, times, step, output);
        return;
    }
    for (int32_t left = times; left > 0; --left) {
        if (layer->out_c < LANES) {
            few_channels(layer, &rule, &inside, out);
        } else {
            whole_blocks(layer, &rule, &inside, 1, 0, out, 0);
        }
        inside.input = &inside.input[step];
        out = &out[layer->out_c];
    }
}

/* The same, two positions at once. */
OUTLINE void all_channels_twice(const convolution_t *layer, const window_t *window, int32_t times,
                                const steps_t *steps, int8_t *output)
{
    const finish_t rule = finish_of(layer);
    window_t inside = *window;
    const steps_t by = *steps;
    int8_t *out = output;
    for (int32_t left = times; left > 0; --left) {
        whole_blocks(layer, &rule, &inside, 2, by.next, out, by.output_next);
        inside.input = &inside.input[by.input];
        out = &out[by.output];
    }
}

#endif
