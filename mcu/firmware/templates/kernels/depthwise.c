/* Depthwise convolution, several neighbouring channels at a time. */
#include "kernels.h"

#include "finish.h"
#include "window.h"

#if defined(__ARM_FEATURE_MVE)

#include "depthwise_mve.h"

#elif defined(__AVR__)

#include "depthwise_avr.h"

#else

#define LANES 4

#if defined(__ARM_FEATURE_DSP)

#define UNROLLED true

/* Four channels: where their next tap lies, and their sums. */
typedef struct {
    const int8_t *x, *w;
    int32_t sum[LANES];
} lanes_t;

/* One tap; on to the next. In one piece, as the compiler would load taps ahead until it runs out of registers. */
static inline void add_tap(lanes_t *lanes, int32_t input_run, int32_t weight_run, int32_t offset)
{
    uint32_t a, b, a_odd, b_odd;
    __asm("ldr %[a], [%[x]]\n\t"
          "ldr %[b], [%[w]]\n\t"
          "add %[x], %[x], %[input_run]\n\t"
          "add %[w], %[w], %[weight_run]\n\t"
          "sxtab16 %[a_odd], %[offsets], %[a], ror #8\n\t"
          "sxtb16 %[b_odd], %[b], ror #8\n\t"
          "smlabb %[s1], %[a_odd], %[b_odd], %[s1]\n\t"
          "smlatt %[s3], %[a_odd], %[b_odd], %[s3]\n\t"
          "sxtab16 %[a], %[offsets], %[a]\n\t"
          "sxtb16 %[b], %[b]\n\t"
          "smlabb %[s0], %[a], %[b], %[s0]\n\t"
          "smlatt %[s2], %[a], %[b], %[s2]"
          : [a] "=&r"(a), [b] "=&r"(b), [a_odd] "=&r"(a_odd), [b_odd] "=&r"(b_odd), [x] "+&r"(lanes->x),
            [w] "+&r"(lanes->w), [s0] "+&r"(lanes->sum[0]), [s1] "+&r"(lanes->sum[1]), [s2] "+&r"(lanes->sum[2]),
            [s3] "+&r"(lanes->sum[3])
          : [input_run] "r"(input_run), [weight_run] "r"(weight_run), [offsets] "r"(pair(offset))
          : "memory");
}

#else

#define UNROLLED false

/* Four channels: where their next tap lies, and their sums. */
typedef struct {
    const int8_t *x, *w;
    int32_t sum[LANES];
} lanes_t;

static inline void add_tap(lanes_t *lanes, int32_t input_run, int32_t weight_run, int32_t offset)
{
    const int8_t *x = lanes->x, *w = lanes->w;
    lanes->sum[0] += (x[0] + offset) * w[0];
    lanes->sum[1] += (x[1] + offset) * w[1];
    lanes->sum[2] += (x[2] + offset) * w[2];
    lanes->sum[3] += (x[3] + offset) * w[3];
    lanes->x = &x[input_run];
    lanes->w = &w[weight_run];
}

#endif

/* Four channels at one position. Rows of three taps, the usual ones, are unrolled where loops cost much. */
INLINE void sum_four(const window_t *window, lanes_t *lanes)
{
    for (int32_t band = window->bands; band > 0; --band) {
        if (UNROLLED && (window->runs == 3)) {
            add_tap(lanes, window->input_run, window->weight_run, window->offset);
            add_tap(lanes, window->input_run, window->weight_run, window->offset);
            add_tap(lanes, window->input_run, window->weight_run, window->offset);
        } else {
            for (int32_t run = window->runs; run > 0; --run) {
                add_tap(lanes, window->input_run, window->weight_run, window->offset);
            }
        }
        lanes->x += window->input_band;
        lanes->w += window->weight_band;
    }
}

/* The sum of one channel at one position. */
INLINE int32_t sum_one(const window_t *window, const int8_t *input, const int8_t *weights, int32_t bias)
{
    const int32_t input_run = window->input_run, weight_run = window->weight_run, offset = window->offset;
    const int8_t *x = input, *w = weights;
    int32_t sum = bias;
    for (int32_t band = window->bands; band > 0; --band) {
        if (UNROLLED && (window->runs == 3)) {
            sum += (x[0] + offset) * w[0];
            sum += (x[input_run] + offset) * w[weight_run];
            sum += (x[2 * input_run] + offset) * w[2 * weight_run];
            x = &x[3 * input_run];
            w = &w[3 * weight_run];
        } else {
            for (int32_t run = window->runs; run > 0; --run) {
                sum += (*x + offset) * *w;
                x = &x[input_run];
                w = &w[weight_run];
            }
        }
        x += window->input_band;
        w += window->weight_band;
    }
    return sum;
}

/* All channels at some positions, `step` values apart. The last block starts early enough to be whole: two or three
 * channels are computed twice rather than one by one. */
OUTLINE void all_channels(const convolution_t *layer, const window_t *window, int32_t times, int32_t step,
                          int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const int32_t channels = layer->out_c, blocked = (channels < LANES) ? 0 : ((channels + 2) & ~(LANES - 1));
    const window_t inside = *window; /* a copy, as for finish_t */
    const int8_t *const weights = &layer->weights[inside.weight];
    const int8_t *input = inside.input;
    int8_t *out = output;
    for (int32_t left = (blocked > 0) ? times : 0; left > 0; --left) {
        for (int32_t channel = 0; (channels - channel) > 1; channel += LANES) {
            const int32_t start = minimum(channel, channels - LANES);
            const int32_t *const bias = &layer->bias[start];
            lanes_t lanes = {&input[start], &weights[start], {bias[0], bias[1], bias[2], bias[3]}};
            sum_four(&inside, &lanes);
            finish_four(&rule, start, lanes.sum, &out[start]);
        }
        input = &input[step];
        out = &out[channels];
    }
    for (int32_t channel = blocked; channel < channels; ++channel) {
        input = &inside.input[channel];
        out = &output[channel];
        for (int32_t left = times; left > 0; --left) {
            *out = finish(&rule, channel, sum_one(&inside, input, &weights[channel], layer->bias[channel]));
            input = &input[step];
            out = &out[channels];
        }
    }
}

#endif

/* Where windows lie inside the input, a row of positions is one call. */
void depthwise(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const convolution_t *const layer = description;
    const index_t out_row = (index_t)layer->out_w * layer->out_c;
    const index_t step = (index_t)layer->stride_w * layer->in_c;
#if defined(__ARM_FEATURE_MVE)
    const bool twice = layer->out_c >= LANES;
#endif
    index_t rows = 1, columns;
    clip_t clip;
    for (index_t y = 0; y < layer->out_h; y += rows) {
        const index_t top = (y * layer->stride_h) - layer->pad_top;
        clip.row = first_tap(top, layer->dilation_h);
        clip.row_end = end_tap(top, layer->dilation_h, layer->kernel_h, layer->in_h);
#if defined(__ARM_FEATURE_MVE)
        rows = (twice && rows_inside(layer, y, top, 2)) ? 2 : 1;
#endif
        int8_t *out = &output[y * out_row];
        for (index_t x = 0; x < layer->out_w; x += columns) {
            const index_t left = (x * layer->stride_w) - layer->pad_left;
            clip.column = first_tap(left, layer->dilation_w);
            clip.column_end = end_tap(left, layer->dilation_w, layer->kernel_w, layer->in_w);
            const window_t window = window_of(layer, &clip, input, top, left, true);
            columns = maximum(whole_columns(layer, x, left), 1);
#if defined(__ARM_FEATURE_MVE)
            if (rows > 1) {
                const steps_t steps = {step, layer->out_c, (int32_t)layer->stride_h * layer->in_w * layer->in_c, out_row};
                all_channels_twice(layer, &window, columns, &steps, out);
            } else if (twice && (columns > 1)) {
                const steps_t steps = {2 * step, 2 * layer->out_c, step, layer->out_c};
                all_channels_twice(layer, &window, columns / 2, &steps, out);
                columns -= columns % 2;
            } else
#endif
            {
                all_channels(layer, &window, columns, step, out);
            }
            out = &out[columns * layer->out_c];
        }
    }
}

/* Any number of channels and any depth multiplier, one output at a time. */
void depthwise_multiplied(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const convolution_t *const layer = description;
    const index_t in_c = layer->in_c, out_c = layer->out_c;
    const index_t multiplier = out_c / in_c;
    const finish_t rule = finish_of(layer);
    int8_t *out = output;
    clip_t clip;
    for (index_t y = 0; y < layer->out_h; ++y) {
        const index_t top = (y * layer->stride_h) - layer->pad_top;
        clip.row = first_tap(top, layer->dilation_h);
        clip.row_end = end_tap(top, layer->dilation_h, layer->kernel_h, layer->in_h);
        for (index_t x = 0; x < layer->out_w; ++x) {
            const index_t left = (x * layer->stride_w) - layer->pad_left;
            const index_t origin = ((top * layer->in_w) + left) * in_c;
            clip.column = first_tap(left, layer->dilation_w);
            clip.column_end = end_tap(left, layer->dilation_w, layer->kernel_w, layer->in_w);
            for (index_t channel = 0; channel < out_c; ++channel) {
                int32_t sum = layer->bias[channel];
                for (index_t row = clip.row; row < clip.row_end; ++row) {
                    for (index_t column = clip.column; column < clip.column_end; ++column) {
                        const index_t at = (row * layer->dilation_h * layer->in_w) + (column * layer->dilation_w);
                        const int8_t value = input[origin + (at * in_c) + (channel / multiplier)];
                        const index_t tap = (row * layer->kernel_w) + column;
                        sum += (value + layer->in_offset) * layer->weights[(tap * out_c) + channel];
                    }
                }
                out[channel] = finish(&rule, channel, sum);
            }
            out = &out[out_c];
        }
    }
}
