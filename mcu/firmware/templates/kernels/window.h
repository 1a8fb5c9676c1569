/* Windows that hang over the border of their input: clipped, so that padding costs neither memory nor copies. */
#ifndef WINDOW_H
#define WINDOW_H

#include <stdbool.h>

#include "arithmetic.h"
#include "kernels.h"

/* The part of a window that lies inside the input: taps [row, row_end) x [column, column_end). */
typedef struct {
    index_t row, row_end;
    index_t column, column_end;
} clip_t;

/* First tap inside an axis of `size` values, for a window that starts at `origin`. */
static inline index_t first_tap(index_t origin, index_t dilation)
{
    return (origin >= 0) ? 0 : (((dilation - 1) - origin) / dilation);
}

static inline index_t end_tap(index_t origin, index_t dilation, index_t kernel, index_t size)
{
    const index_t inside = (size > origin) ? ((((size - origin) + dilation) - 1) / dilation) : 0;
    return minimum(kernel, inside);
}

/* Whether the windows of `several` outputs from `at` on lie inside an axis of `size` values; the first starts at
 * `origin`, each takes `extent`. */
static inline bool inside(index_t at, index_t several, index_t outputs, index_t stride, index_t origin, index_t extent,
                          index_t size)
{
    return ((at + several) <= outputs) && (origin >= 0) && ((origin + ((several - 1) * stride) + extent) <= size);
}

/* The same of the rows of windows from output row y on, and of their columns from output column x on. */
static inline bool rows_inside(const convolution_t *layer, index_t y, index_t top, index_t several)
{
    const index_t extent = ((index_t)(layer->kernel_h - 1) * layer->dilation_h) + 1;
    return inside(y, several, layer->out_h, layer->stride_h, top, extent, layer->in_h);
}

static inline bool columns_inside(const convolution_t *layer, index_t x, index_t left, index_t several)
{
    const index_t extent = ((index_t)(layer->kernel_w - 1) * layer->dilation_w) + 1;
    return inside(x, several, layer->out_w, layer->stride_w, left, extent, layer->in_w);
}

/* How many outputs from column x on have windows whose columns all lie inside; the first starts at `left`. */
static inline index_t whole_columns(const convolution_t *layer, index_t x, index_t left)
{
    const index_t extent = ((index_t)(layer->kernel_w - 1) * layer->dilation_w) + 1;
    const index_t room = layer->in_w - (left + extent);
    return ((left < 0) || (room < 0)) ? 0 : minimum(layer->out_w - x, (room / layer->stride_w) + 1);
}

/* What lies inside one window: bands of runs of contiguous values. Tap by tap, a run is a tap and a band a row of taps;
 * else a run is a row of taps, and there is one band. */
typedef struct {
    const int8_t *input;                /* first value */
    index_t weight;                     /* index of its weight among those of a channel */
    index_t bands, runs, count;         /* values of a run */
    index_t input_run, weight_run;      /* steps from run to run */
    index_t input_band, weight_band;    /* steps from behind the last run of a band to the next band */
    index_t offset;                     /* added to every value */
} window_t;

/* The clipped window whose first tap is at row `top` and column `left` of the input, outside it where padding is. */
static inline window_t window_of(const convolution_t *layer, const clip_t *clip, const int8_t *input, index_t top,
                                 index_t left, bool tap_by_tap)
{
    const index_t in_c = layer->in_c;
    const index_t rows = clip->row_end - clip->row, columns = clip->column_end - clip->column;
    const index_t in_row = top + (clip->row * layer->dilation_h), in_column = left + (clip->column * layer->dilation_w);
    window_t window;
    window.input = &input[((in_row * layer->in_w) + in_column) * in_c];
    window.weight = ((clip->row * layer->kernel_w) + clip->column) * in_c;
    window.bands = tap_by_tap ? rows : 1;
    window.runs = tap_by_tap ? columns : rows;
    window.count = tap_by_tap ? in_c : (columns * in_c);
    const index_t input_row = (index_t)layer->dilation_h * layer->in_w * in_c, weight_row = layer->kernel_w * in_c;
    window.input_run = tap_by_tap ? (layer->dilation_w * in_c) : input_row;
    window.weight_run = tap_by_tap ? in_c : weight_row;
    window.input_band = input_row - (columns * window.input_run);
    window.weight_band = weight_row - (columns * window.weight_run);
    window.offset = layer->in_offset;
    return window;
}

#endif
