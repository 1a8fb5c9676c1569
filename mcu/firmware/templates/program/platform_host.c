/* An ordinary computer: text on the standard output, no instruction clock, no stack figure. */
#include "platform.h"

#include <stdio.h>
#include <stdlib.h>

void platform_print(const char *text)
{
    (void)fputs(text, stdout);
}

void platform_clock_start(void)
{
}

uint32_t platform_clock(void)
{
    return 0U;
}

void platform_busy(uint32_t loops)
{
    (void)loops;
}

void platform_stack_paint(void)
{
}

uint32_t platform_stack_used(void)
{
    return 0U;
}

void platform_exit(int32_t status)
{
    exit(status);
}
