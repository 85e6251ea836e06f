#include "llama/lazy_memory.h"

#include <ggml-backend-impl.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <sys/mman.h>

#include <cstring>
#include <mutex>
#include <type_traits>

#include "base/assert.h"

namespace hearth::llama {

namespace {

// What this file relies on in upstream's internal header.
static_assert(GGML_BACKEND_API_VERSION == 2, "check lazy_memory.cpp against the new backend interface");
static_assert(std::is_same_v<decltype(ggml_backend_buffer_type::iface), ggml_backend_buffer_type_i>);
static_assert(std::is_same_v<decltype(ggml_backend_buffer_type_i::alloc_buffer),
                             ggml_backend_buffer_t (*)(ggml_backend_buffer_type_t, size_t)>);
static_assert(std::is_same_v<decltype(ggml_backend_buffer_i::free_buffer), void (*)(ggml_backend_buffer_t)>);
static_assert(std::is_same_v<decltype(ggml_backend_buffer_i::clear), void (*)(ggml_backend_buffer_t, uint8_t)>);
static_assert(std::is_same_v<decltype(ggml_backend_buffer::context), void*>);
static_assert(std::is_same_v<decltype(ggml_backend_buffer::size), size_t>);

using Allocate = ggml_backend_buffer_t (*)(ggml_backend_buffer_type_t, size_t);
Allocate original_allocate = nullptr;      // set once by install
ggml_backend_buffer_i mapped_interface{};  // set once by install

void free_mapping(ggml_backend_buffer_t buffer) { munmap(buffer->context, buffer->size); }

void clear_mapping(ggml_backend_buffer_t buffer, uint8_t value) {
    // A private anonymous page that is given back reads as zero again.
    if (value == 0 && madvise(buffer->context, buffer->size, MADV_DONTNEED) == 0) return;
    std::memset(buffer->context, value, buffer->size);
}

ggml_backend_buffer_t allocate_mapping(ggml_backend_buffer_type_t type, size_t size) {
    if (size < kLazyBytesMin) return original_allocate(type, size);
    void* const data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) return nullptr;
    // Not huge pages: one token of a transposed V cache touches every row, which
    // would make the whole cache resident at once.
    madvise(data, size, MADV_NOHUGEPAGE);
    return ggml_backend_buffer_init(type, mapped_interface, data, size);
}

}  // namespace

void install_lazy_memory() {
    static std::once_flag once;
    std::call_once(once, [] {
        // The tensor access functions are those of a buffer over foreign memory.
        alignas(64) static char sample[64];
        auto* const model = ggml_backend_cpu_buffer_from_ptr(sample, sizeof(sample));
        HEARTH_ASSERT(model != nullptr && model->context == sample, "a buffer's context is its memory");
        mapped_interface = model->iface;
        mapped_interface.free_buffer = free_mapping;
        mapped_interface.clear = clear_mapping;
        ggml_backend_buffer_free(model);

        auto* const type = ggml_backend_cpu_buffer_type();
        original_allocate = type->iface.alloc_buffer;
        HEARTH_ASSERT(original_allocate != nullptr, "the CPU buffer type allocates");
        type->iface.alloc_buffer = allocate_mapping;
    });
}

}  // namespace hearth::llama
