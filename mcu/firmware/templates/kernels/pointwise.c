/* Convolutions whose values of a position are one run: 1x1 and dense layers, where they are so in the input itself, and
 * those of a few input channels, where they are copied together. Their bias holds the input's offset. */
#include "kernels.h"

#include "products.h"

#if defined(__ARM_FEATURE_MVE)
#include "pointwise_mve.h"
#endif

#define COLUMN 80 /* values of a window, at most */

/* All output channels at one position. */
OUTLINE void run_single(const convolution_t *layer, const int8_t *input, index_t size, int8_t *output)
{
    const window_t window = whole_run(input, size);
    products_single(layer, &window, size, output);
}

#if POSITIONS > 1
/* All output channels at some times POSITIONS positions, `next` values apart. */
OUTLINE void run_several(const convolution_t *layer, const int8_t *input, index_t size, index_t next, index_t times,
                         int8_t *output)
{
#if defined(__ARM_FEATURE_MVE)
    products_of_runs(layer, input, size, next, times, output);
#else
    const int8_t *x = input;
    int8_t *out = output;
    for (index_t left = times; left > 0; --left) {
        const window_t window = whole_run(x, size);
        products_several(layer, &window, size, next, out, layer->out_c);
        x = &x[POSITIONS * next];
        out = &out[POSITIONS * layer->out_c];
    }
#endif
}
#endif

/* All output channels at `positions` positions. */
OUTLINE void runs(const convolution_t *layer, const int8_t *input, index_t size, index_t next, index_t positions,
                  int8_t *output)
{
    index_t done = 0;
#if defined(__ARM_FEATURE_MVE)
    if ((size == VECTOR) && (positions >= 4) && ((layer->out_c % 2) == 0) && shifts_right(layer)) {
        runs_of_one_vector(layer, input, next, positions, output);
        return;
    }
    if ((size > VECTOR) && (size <= (2 * VECTOR)) && (positions >= 2) && (layer->out_c >= VECTOR_SUMS) && shifts_right(layer)) {
        runs_of_two_vectors(layer, input, size, next, positions, output);
        return;
    }
#endif
#if POSITIONS > 1
    run_several(layer, input, size, next, positions / POSITIONS, output);
    done = positions - (positions % POSITIONS);
#endif
    for (; done < positions; ++done) {
        run_single(layer, &input[done * next], size, &output[done * layer->out_c]);
    }
}

void pointwise(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const convolution_t *const layer = description;
    const int8_t *row = input;
    int8_t *out = output;
    for (index_t y = 0; y < layer->out_h; ++y) {
        runs(layer, row, layer->in_c, (index_t)layer->stride_w * layer->in_c, layer->out_w, out);
        out = &out[(index_t)layer->out_w * layer->out_c];
        row = &row[(index_t)layer->stride_h * layer->in_w * layer->in_c];
    }
}

/* Copies a few values. */
static inline void copy_run(int8_t *to, const int8_t *from, index_t count)
{
    index_t i = 0;
#if defined(__ARM_FEATURE_UNALIGNED)
    for (; (i + 4) <= count; i += 4) {
        (void)memcpy(&to[i], &from[i], 4);
    }
#endif
    for (; i < count; ++i) {
        to[i] = from[i];
    }
}

/* A window's values as one run; those outside the input are its zero point. */
OUTLINE void fill_column(const convolution_t *layer, const clip_t *clip, const int8_t *input, int8_t *column)
{
    const index_t in_c = layer->in_c, taps = layer->kernel_w * in_c, in_row = layer->in_w * in_c;
    const index_t first = clip->column * in_c, count = (clip->column_end - clip->column) * in_c;
    if (((clip->row_end - clip->row) < layer->kernel_h) || (count < taps)) {
        (void)memset(column, -layer->in_offset, (size_t)(layer->kernel_h * taps));
    }
    const int8_t *from = &input[(clip->row * in_row) + first];
    int8_t *to = &column[(clip->row * taps) + first];
    for (index_t row = clip->row; row < clip->row_end; ++row) {
        copy_run(to, from, count);
        from = &from[in_row];
        to = &to[taps];
    }
}

void narrow(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const convolution_t *const layer = description;
    const index_t size = (index_t)layer->kernel_h * layer->kernel_w * layer->in_c;
    int8_t columns[POSITIONS * COLUMN];
    int8_t *out = output;
    index_t filled = 0, remaining = (index_t)layer->out_h * layer->out_w;
    clip_t clip;
    for (index_t y = 0; y < layer->out_h; ++y) {
        const index_t top = (y * layer->stride_h) - layer->pad_top;
        clip.row = first_tap(top, 1);
        clip.row_end = end_tap(top, 1, layer->kernel_h, layer->in_h);
        for (index_t x = 0; x < layer->out_w; ++x) {
            const index_t left = (x * layer->stride_w) - layer->pad_left;
            clip.column = first_tap(left, 1);
            clip.column_end = end_tap(left, 1, layer->kernel_w, layer->in_w);
            fill_column(layer, &clip, &input[((top * layer->in_w) + left) * layer->in_c], &columns[filled * COLUMN]);
            ++filled;
            --remaining;
            if ((filled == POSITIONS) || (remaining == 0)) {
                runs(layer, columns, size, COLUMN, filled, out);
                out = &out[filled * layer->out_c];
                filled = 0;
            }
        }
    }
}
