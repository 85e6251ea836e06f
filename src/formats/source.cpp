#include "formats/source.h"

#include <filesystem>
#include <system_error>

#include "models/gguf.h"
#include "models/safetensors.h"

namespace hearth::formats {
namespace {

constexpr std::uint64_t kPackedInWord = 8;  // of four bits, in the 32 of a word

std::uint64_t count_folder(models::SafetensorsModel const& model) {
    std::uint64_t total = 0;
    for (auto const& tensor : model.tensors()) {
        if (tensor.name.ends_with(".qweight")) total += tensor.elements() * kPackedInWord;
        else if (!tensor.name.ends_with(".qzeros") && !tensor.name.ends_with(".g_idx")) total += tensor.elements();
    }
    return total;
}

}  // namespace

bool is_folder(std::string const& path) {
    std::error_code failed;
    return std::filesystem::is_directory(path, failed);
}

bool is_model_folder(std::string const& path) {
    std::error_code failed;
    return is_folder(path) && std::filesystem::is_regular_file(path + "/config.json", failed);
}

bool is_adapter_folder(std::string const& path) {
    std::error_code failed;
    return is_folder(path) && std::filesystem::is_regular_file(path + "/adapter_config.json", failed);
}

Result<std::uint64_t> count_parameters(std::string const& source) {
    if (is_folder(source)) {
        HEARTH_TRY(auto const model, models::SafetensorsModel::open(source));
        return count_folder(model);
    }
    HEARTH_TRY(auto const files, models::read_gguf_model(source));
    std::uint64_t total = 0;
    for (auto const& file : files) {
        for (auto const& tensor : file.tensors) {
            std::uint64_t elements = 1;
            for (auto const dimension : tensor.dimensions) elements *= dimension;
            total += elements;
        }
    }
    return total;
}

}  // namespace hearth::formats
