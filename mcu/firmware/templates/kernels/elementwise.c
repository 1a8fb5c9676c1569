/* Kernels that look at one value at a time, and those that only move values. */
#include "kernels.h"

#include <string.h>

#include "arithmetic.h"

#define ADD_SCALE ((int32_t)1 << 20) /* headroom of the common scale, as in TensorFlow Lite */

void add(const FLASH void *description, const int8_t *a, const int8_t *b, int8_t *output)
{
    const add_t *const layer = description;
    for (index_t i = 0; i < layer->size; ++i) {
        const int32_t value_a = (a[i] + layer->offset_a) * ADD_SCALE;
        const int32_t value_b = (b[i] + layer->offset_b) * ADD_SCALE;
        const int32_t sum = rescale(value_a, layer->multiplier_a, layer->shift_a) +
                            rescale(value_b, layer->multiplier_b, layer->shift_b);
        const int32_t value = rescale(sum, layer->out_multiplier, layer->out_shift) + layer->out_offset;
        output[i] = (int8_t)clamp(value, layer->out_min, layer->out_max);
    }
}

void relu(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const rescale_t *const layer = description;
    for (index_t i = 0; i < layer->size; ++i) {
        const int32_t value = rescale(input[i] + layer->in_offset, layer->multiplier, layer->shift);
        output[i] = (int8_t)clamp(value + layer->out_offset, layer->out_min, layer->out_max);
    }
}

void lookup(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const lookup_t *const layer = description;
    for (index_t i = 0; i < layer->size; ++i) {
        output[i] = layer->table[input[i] - INT8_MIN];
    }
}

void prelu(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const prelu_t *const layer = description;
    for (index_t start = 0; start < layer->size; start += layer->period) {
        for (index_t i = 0; i < layer->period; ++i) {
            const int32_t x = input[start + i] + layer->in_offset;
            const int32_t value =
                (x < 0) ? rescale(x * (layer->slopes[i] + layer->slope_offset), layer->multiplier_below, layer->shift_below)
                        : rescale(x, layer->multiplier, layer->shift);
            output[start + i] = (int8_t)clamp(value + layer->out_offset, INT8_MIN, INT8_MAX);
        }
    }
}

void multiply(const FLASH void *description, const int8_t *a, const int8_t *b, int8_t *output)
{
    const multiply_t *const layer = description;
    for (index_t start = 0; start < layer->size; start += layer->period) {
        for (index_t i = 0; i < layer->period; ++i) {
            const int32_t product = (int32_t)(a[start + i] + layer->offset_a) * (b[i] + layer->offset_b);
            const int32_t value = rescale(product, layer->multiplier, layer->shift) + layer->out_offset;
            output[start + i] = (int8_t)clamp(value, layer->out_min, layer->out_max);
        }
    }
}

void enlarge(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const enlarge_t *const layer = description;
    const size_t channels = (size_t)layer->channels, row = (size_t)layer->in_w * channels;
    int8_t *out = output;
    for (index_t y = 0; y < (layer->in_h * layer->down); ++y) {
        const int8_t *from = &input[(size_t)(y / layer->down) * row];
        for (index_t x = 0; x < (layer->in_w * layer->right); ++x) {
            (void)memcpy(out, &from[(size_t)(x / layer->right) * channels], channels);
            out = &out[channels];
        }
    }
}

void slice(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const slice_t *const layer = description;
    const size_t channels = (size_t)layer->channels, row = (size_t)layer->in_w * channels;
    int8_t *out = output;
    for (index_t y = 0; y < layer->out_h; ++y) {
        const int8_t *from = &input[(size_t)(layer->top + (y * layer->down)) * row];
        for (index_t x = 0; x < layer->out_w; ++x) {
            (void)memcpy(out, &from[(size_t)(layer->left + (x * layer->right)) * channels], channels);
            out = &out[channels];
        }
    }
}

void gather(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const gather_t *const layer = description;
    for (index_t position = 0; position < layer->positions; ++position) {
        const int8_t *from = &input[position * layer->in_channels];
        int8_t *to = &output[position * layer->channels];
        for (index_t channel = 0; channel < layer->channels; ++channel) {
            to[channel] = from[layer->order[channel]];
        }
    }
}

void pad(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const pad_t *const layer = description;
    const index_t channels = layer->channels;
    const size_t row = (size_t)(layer->in_w * channels);
    const size_t left = (size_t)(layer->left * channels), right = (size_t)(layer->right * channels);
    const size_t top = (size_t)layer->top * (left + row + right);
    const size_t bottom = (size_t)layer->bottom * (left + row + right);
    int8_t *out = output;
    (void)memset(out, layer->value, top);
    out = &out[top];
    for (index_t y = 0; y < layer->in_h; ++y) {
        (void)memset(out, layer->value, left);
        (void)memcpy(&out[left], &input[(size_t)y * row], row);
        (void)memset(&out[left + row], layer->value, right);
        out = &out[left + row + right];
    }
    (void)memset(out, layer->value, bottom);
}

void concat(const FLASH void *description, const int8_t *input, int8_t *output)
{
    const concat_t *const part = description;
    for (index_t position = 0; position < part->positions; ++position) {
        (void)memcpy(&output[position * part->out_channels], &input[position * part->channels],
                     (size_t)part->channels);
    }
}
