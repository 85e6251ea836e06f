// Adapters with random changes, and models with such changes merged into their weights:
// what a model says with the one is what the other says.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "llama/libllama_backend.h"

namespace hearth::llama::testing {

struct TinyAdapterOptions {
    std::uint32_t rank = 4;
    float alpha = 8;  // 0: not written, as some do
    float spread = 0.05F;  // of the numbers of A and B
    std::uint32_t seed = 1;
    enum class Type : std::uint8_t { f32, f16, q8_0 } type = Type::f32;
};

// A file that is deleted with this object.
class WrittenFile {
public:
    explicit WrittenFile(std::filesystem::path path) : path_(std::move(path)) {}
    WrittenFile(WrittenFile&& other) noexcept : path_(std::move(other.path_)) { other.path_.clear(); }
    ~WrittenFile();
    WrittenFile(WrittenFile const&) = delete;
    WrittenFile& operator=(WrittenFile const&) = delete;
    [[nodiscard]] std::string path() const { return path_.string(); }

private:
    std::filesystem::path path_;
};

// Changes every matrix of the layers of the model in `base`, which is F32, that the engine applies changes to.
[[nodiscard]] WrittenFile write_adapter(std::string const& base, TinyAdapterOptions const& options = {});

// The model in `base` with the changes of the adapters in its weights.
[[nodiscard]] WrittenFile write_merged(std::string const& base, AdapterSet const& adapters);

}  // namespace hearth::llama::testing
