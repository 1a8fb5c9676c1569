/* The inner loops of the depthwise convolution on an AVR: one channel at a time. */
#ifndef DEPTHWISE_AVR_H
#define DEPTHWISE_AVR_H

#include "products_avr.h"

/* All channels at some positions, `step` values apart. */
OUTLINE void all_channels(const convolution_t *layer, const window_t *window, index_t times, index_t step,
                          int8_t *output)
{
    const finish_t rule = finish_of(layer);
    const index_t channels = layer->out_c;
    const index_t x_row = (window->runs * window->input_run) + window->input_band;
    const index_t w_row = (window->runs * window->weight_run) + window->weight_band;
    const int8_t *input = window->input;
    int8_t *out = output;
    for (index_t left = times; left > 0; --left) {
        for (index_t channel = 0; channel < channels; ++channel) {
            int32_t sum = layer->bias[channel];
            const int8_t *x = &input[channel];
            const FLASH int8_t *w = &layer->weights[window->weight + channel];
            for (index_t band = window->bands; band > 0; --band) {
                sum = add_run(sum, x, w, window->runs, window->input_run, window->weight_run, window->offset);
                x += x_row;
                w += w_row;
            }
            *out = finish(&rule, channel, sum);
            ++out;
        }
        input = &input[step];
    }
}

#endif
