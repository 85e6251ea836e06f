// SafetensorsWriter: safetensors files in memory for tests, right by default.
// What is wrong on purpose is written by hand with safetensors_bytes().
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace hearth::models::testing {

// The length, the header and the data, whatever they are.
inline std::string safetensors_bytes(std::string_view header, std::string_view data) {
    std::uint64_t const length = header.size();
    std::string bytes(sizeof(length), '\0');
    std::memcpy(bytes.data(), &length, sizeof(length));
    return bytes.append(header).append(data);
}

class SafetensorsWriter {
public:
    // `data` must have the bytes that type and shape need.
    SafetensorsWriter& tensor(std::string_view name, std::string_view type, std::vector<std::uint64_t> const& shape,
                              std::string_view data) {
        header_ += header_.empty() ? "{" : ",";
        header_.append("\"").append(name).append("\":{\"dtype\":\"").append(type).append("\",\"shape\":[");
        for (std::size_t i = 0; i < shape.size(); ++i) header_ += (i > 0 ? "," : "") + std::to_string(shape[i]);
        header_ += "],\"data_offsets\":[" + std::to_string(data_.size()) + ",";
        data_ += data;
        header_ += std::to_string(data_.size()) + "]}";
        return *this;
    }
    [[nodiscard]] std::string build() const { return safetensors_bytes(header_.empty() ? "{}" : header_ + "}", data_); }

private:
    std::string header_;
    std::string data_;
};

inline void write_file(std::filesystem::path const& path, std::string_view bytes) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace hearth::models::testing
