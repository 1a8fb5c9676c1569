/* Reset: fill the memory the C language promises, switch on the floating-point or vector unit, run main. */
#include <stdint.h>
#include <string.h>

extern uint8_t link_data_load[], link_data_start[], link_data_end[], link_bss_start[], link_bss_end[];
extern uint8_t link_stack_top[];

int main(void);
void reset_handler(void);
void fault_handler(void);

typedef void (*vector_t)(void);

#define VECTORS 16
#define COPROCESSOR_ACCESS (*(volatile uint32_t *)0xE000ED88U)
#define CONFIGURATION (*(volatile uint32_t *)0xE000ED14U)

/* Weak: an application, or the self test, brings its own. */
__attribute__((weak)) void fault_handler(void)
{
    for (;;) {
    }
}

void reset_handler(void)
{
    (void)memcpy(link_data_start, link_data_load, (size_t)((uintptr_t)link_data_end - (uintptr_t)link_data_start));
    (void)memset(link_bss_start, 0, (size_t)((uintptr_t)link_bss_end - (uintptr_t)link_bss_start));
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    COPROCESSOR_ACCESS |= (uint32_t)0xF << 20;
    __asm volatile("dsb\n\tisb" : : : "memory");
#endif
#if defined(TRAP_UNALIGNED) /* lets a larger core stand in for a Cortex-M0+, which has no unaligned loads */
    CONFIGURATION |= (uint32_t)1 << 3;
#endif
    (void)main();
    fault_handler();
}

__attribute__((section(".vectors"), used)) static const vector_t vectors[VECTORS] = {
    (vector_t)(uintptr_t)link_stack_top, reset_handler, fault_handler, fault_handler, fault_handler,
    fault_handler, fault_handler,
};
