#include "llama/testing/adapter_files.h"

#include <fmt/format.h>
#include <ggml.h>
#include <gguf.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <stdexcept>
#include <string_view>

namespace hearth::llama::testing {

namespace {

constexpr std::size_t kMemory = 96U << 20;
constexpr std::array<std::string_view, 10> kChanged = {
    "attn_q.weight",   "attn_v.weight", "attn_output.weight", "ffn_gate.weight",          "ffn_up.weight",
    "ffn_down.weight", "ssm_in.weight", "ssm_out.weight",     "shortconv.in_proj.weight", "shortconv.out_proj.weight"};

struct Free {
    void operator()(ggml_context* context) const { ggml_free(context); }
    void operator()(gguf_context* file) const { gguf_free(file); }
};
using Memory = std::unique_ptr<ggml_context, Free>;
using File = std::unique_ptr<gguf_context, Free>;

std::filesystem::path new_path() {
    static std::atomic<unsigned> count = 0;
    return std::filesystem::temp_directory_path() /
           fmt::format("hearth-adapter-{}-{}.gguf", static_cast<int>(getpid()), count.fetch_add(1));
}

// With all of its tensors.
std::pair<File, Memory> open(std::string const& path) {
    ggml_context* memory = nullptr;
    File file(gguf_init_from_file(path.c_str(), {.no_alloc = false, .ctx = &memory}));
    if (file == nullptr) throw std::runtime_error("cannot read " + path);
    return {std::move(file), Memory(memory)};
}

WrittenFile write(gguf_context const& file) {
    WrittenFile out(new_path());
    if (!gguf_write_to_file(&file, out.path().c_str(), false)) throw std::runtime_error("cannot write " + out.path());
    return out;
}

bool is_changed(ggml_tensor const& tensor) {
    std::string_view const name = tensor.name;
    auto const dot = name.starts_with("blk.") ? name.find('.', 4) : std::string_view::npos;
    if (dot == std::string_view::npos) return false;
    return std::ranges::find(kChanged, name.substr(dot + 1)) != kChanged.end();
}

ggml_type type_of(TinyAdapterOptions::Type type) {
    switch (type) {
        case TinyAdapterOptions::Type::f32: return GGML_TYPE_F32;
        case TinyAdapterOptions::Type::f16: return GGML_TYPE_F16;
        case TinyAdapterOptions::Type::q8_0: return GGML_TYPE_Q8_0;
    }
    return GGML_TYPE_F32;
}

std::vector<float> numbers_of(ggml_tensor const& tensor) {
    std::vector<float> out(static_cast<std::size_t>(ggml_nelements(&tensor)));
    if (tensor.type == GGML_TYPE_F32) std::memcpy(out.data(), tensor.data, out.size() * sizeof(float));
    else ggml_get_type_traits(tensor.type)->to_float(tensor.data, out.data(), static_cast<std::int64_t>(out.size()));
    return out;
}

void merge(ggml_context& base, std::string const& path, float scale) {
    auto const [file, memory] = open(path);
    auto const key = gguf_find_key(file.get(), "adapter.lora.alpha");
    float const alpha = key < 0 ? 0 : gguf_get_val_f32(file.get(), key);
    for (auto* w = ggml_get_first_tensor(&base); w != nullptr; w = ggml_get_next_tensor(&base, w)) {
        auto const* const a_tensor = ggml_get_tensor(memory.get(), fmt::format("{}.lora_a", w->name).c_str());
        auto const* const b_tensor = ggml_get_tensor(memory.get(), fmt::format("{}.lora_b", w->name).c_str());
        if (a_tensor == nullptr || b_tensor == nullptr) continue;
        auto const a = numbers_of(*a_tensor), b = numbers_of(*b_tensor);
        auto const in = static_cast<std::size_t>(w->ne[0]), out = static_cast<std::size_t>(w->ne[1]);
        auto const rank = static_cast<std::size_t>(b_tensor->ne[0]);
        double const factor = static_cast<double>(scale) * (alpha != 0 ? alpha / static_cast<double>(rank) : 1.0);
        auto* const data = static_cast<float*>(w->data);
        for (std::size_t row = 0; row < out; ++row) {
            for (std::size_t column = 0; column < in; ++column) {
                double sum = 0;
                for (std::size_t k = 0; k < rank; ++k)
                    sum += static_cast<double>(b[row * rank + k]) * static_cast<double>(a[k * in + column]);
                data[row * in + column] += static_cast<float>(factor * sum);
            }
        }
    }
}

}  // namespace

WrittenFile::~WrittenFile() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove(path_, ignored);
}

WrittenFile write_adapter(std::string const& base, TinyAdapterOptions const& options) {
    auto const [file, memory] = open(base);
    Memory const own(ggml_init({kMemory, nullptr, false}));
    File const out(gguf_init_empty());
    auto const architecture = gguf_get_val_str(file.get(), gguf_find_key(file.get(), "general.architecture"));
    gguf_set_val_str(out.get(), "general.architecture", architecture);
    gguf_set_val_str(out.get(), "general.type", "adapter");
    gguf_set_val_str(out.get(), "adapter.type", "lora");
    if (options.alpha != 0) gguf_set_val_f32(out.get(), "adapter.lora.alpha", options.alpha);
    std::mt19937 random(options.seed);
    std::normal_distribution<float> noise(0, options.spread);
    auto const add = [&](std::string const& name, std::int64_t width, std::int64_t height) {
        std::vector<float> numbers(static_cast<std::size_t>(width * height));
        for (auto& number : numbers) number = noise(random);
        auto const wanted = type_of(options.type);
        auto const type = width % ggml_blck_size(wanted) == 0 ? wanted : GGML_TYPE_F32;
        auto* const tensor = ggml_new_tensor_2d(own.get(), type, width, height);
        ggml_set_name(tensor, name.c_str());
        if (type == GGML_TYPE_F32) std::memcpy(tensor->data, numbers.data(), numbers.size() * sizeof(float));
        else ggml_quantize_chunk(type, numbers.data(), tensor->data, 0, height, width, nullptr);
        gguf_add_tensor(out.get(), tensor);
    };
    for (auto* w = ggml_get_first_tensor(memory.get()); w != nullptr; w = ggml_get_next_tensor(memory.get(), w)) {
        if (!is_changed(*w)) continue;
        add(fmt::format("{}.lora_a", w->name), w->ne[0], options.rank);
        add(fmt::format("{}.lora_b", w->name), options.rank, w->ne[1]);
    }
    return write(*out);
}

WrittenFile write_merged(std::string const& base, AdapterSet const& adapters) {
    auto const [file, memory] = open(base);
    for (auto const& [path, scale] : adapters) merge(*memory, path, scale);
    File const out(gguf_init_empty());
    gguf_set_kv(out.get(), file.get());
    for (auto* w = ggml_get_first_tensor(memory.get()); w != nullptr; w = ggml_get_next_tensor(memory.get(), w)) {
        if (gguf_find_tensor(file.get(), w->name) >= 0) gguf_add_tensor(out.get(), w);
    }
    return write(*out);
}

}  // namespace hearth::llama::testing
