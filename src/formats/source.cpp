#include "formats/source.h"

#include <filesystem>
#include <system_error>

#include "models/gguf.h"
#include "models/safetensors.h"

namespace hearth::formats {

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
        return models::count_parameters(model);
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
