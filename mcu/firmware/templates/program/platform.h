/* What the self test needs from the machine it runs on: text out, a clock that counts instructions, the stack. */
#ifndef PLATFORM_H
#define PLATFORM_H

#include <stdint.h>

void platform_print(const char *text);
void platform_clock_start(void);
uint32_t platform_clock(void);              /* ticks since the start; the last value it can count means overflow */
void platform_busy(uint32_t loops);         /* two instructions a loop, to calibrate the clock */
void platform_stack_paint(void);
uint32_t platform_stack_used(void);         /* bytes below the top of the stack touched since it was painted */
void platform_exit(int32_t status);

/* For the other parts of an emulated platform. */
int32_t platform_semihosting(int32_t operation, const void *argument);

#define PLATFORM_CLOCK_OVERFLOW 0xFFFFFFFFU

#endif
