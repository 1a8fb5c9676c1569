/* A machine under an emulator or debugger: semihosting for text and the exit, the painted stack. */
#include "platform.h"

#define SEMIHOSTING_WRITE 0x04
#define SEMIHOSTING_EXIT 0x20
#define APPLICATION_EXIT 0x20026U

#define PAINT 0xA5A5A5A5U
#define PAINT_MARGIN 64U            /* bytes below the caller's frame that painting itself may use */

extern uint32_t link_bss_end[], link_stack_top[];

void platform_print(const char *text)
{
    (void)platform_semihosting(SEMIHOSTING_WRITE, text);
}

__attribute__((noinline)) void platform_stack_paint(void)
{
    volatile uint32_t *word = link_bss_end;
    const uintptr_t end = (uintptr_t)__builtin_frame_address(0) - PAINT_MARGIN;
    while ((uintptr_t)word < end) {
        *word = PAINT;
        ++word;
    }
}

uint32_t platform_stack_used(void)
{
    const volatile uint32_t *word = link_bss_end;
    while (*word == PAINT) {
        ++word;
    }
    return (uint32_t)((uintptr_t)link_stack_top - (uintptr_t)word);
}

void fault_handler(void);

__attribute__((aligned(4))) void fault_handler(void)
{
    platform_print("fault\n");
    platform_exit(2);
}

void platform_exit(int32_t status)
{
    const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)status};
    (void)platform_semihosting(SEMIHOSTING_EXIT, block);
    for (;;) {
    }
}
