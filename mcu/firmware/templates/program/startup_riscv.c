/* Reset of a RISC-V core: stack, trap vector, the memory the C language promises, main. */
#include <stdint.h>
#include <string.h>

extern uint8_t link_data_load[], link_data_start[], link_data_end[], link_bss_start[], link_bss_end[];

int main(void);
void entry(void);
void reset_handler(void);
void fault_handler(void);

/* Weak: an application, or the self test, brings its own. mtvec wants it aligned. */
__attribute__((weak, aligned(4))) void fault_handler(void)
{
    for (;;) {
    }
}

void reset_handler(void)
{
    (void)memcpy(link_data_start, link_data_load, (size_t)((uintptr_t)link_data_end - (uintptr_t)link_data_start));
    (void)memset(link_bss_start, 0, (size_t)((uintptr_t)link_bss_end - (uintptr_t)link_bss_start));
    (void)main();
    fault_handler();
}

/* The first instructions of the flash. */
__attribute__((naked, section(".vectors"), used)) void entry(void)
{
    __asm volatile(".option push\n"
                   ".option arch, +zicsr\n"
                   "la sp, link_stack_top\n"
                   "andi sp, sp, -16\n"
                   "la t0, fault_handler\n"
                   "csrw mtvec, t0\n"
                   "j reset_handler\n"
                   ".option pop");
}
