#include "convert/hf_config.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace hearth::convert {
namespace {

constexpr auto kName = "config.json";

Error io_error(std::string const& path) {
    return Error(Code::io, fmt::format("{}: cannot be read: {}", path, std::strerror(errno)), path);
}

// Reads to the end, which may come earlier or later than the size said.
Result<std::string> read_all(int fd, std::string const& path, std::uint64_t bytes_max) {
    std::string text;
    for (std::size_t done = 0;;) {
        text.resize(std::min<std::size_t>(std::max<std::size_t>(done * 2, 64U << 10), bytes_max + 1));
        auto const got = ::read(fd, text.data() + done, text.size() - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return io_error(path);
        done += static_cast<std::size_t>(got);
        if (done > bytes_max)
            return Error(Code::too_large, fmt::format("{}: more than the {} bytes that are read", path, bytes_max),
                         path);
        if (got > 0) continue;
        text.resize(done);
        return text;
    }
}

}  // namespace

Result<std::optional<std::string>> read_text(std::string const& path, std::uint64_t bytes_max) {
    int const fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) return std::optional<std::string>();
    if (fd < 0) return io_error(path);
    struct ::stat stat{};
    bool const regular = ::fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode);
    auto text = regular ? read_all(fd, path, bytes_max)
                        : Result<std::string>(Error(Code::io, fmt::format("{}: no regular file", path), path));
    ::close(fd);
    if (!text) return text.error();
    return std::optional(*std::move(text));
}

Result<std::optional<json::Document>> read_json(std::string const& path, json::Limits const& limits) {
    HEARTH_TRY(auto text, read_text(path, limits.bytes));
    if (!text) return std::optional<json::Document>();
    HEARTH_TRY(auto document, json::Document::parse(*std::move(text), limits, path));
    if (!document.root().is(json::Kind::object) && !document.root().is(json::Kind::array))
        return Error(Code::corrupt, fmt::format("{}: neither an object nor an array", path), path);
    return std::optional(std::move(document));
}

json::Limits config_limits() { return {.bytes = kConfigBytesMax, .values = 1U << 20, .depth = 32}; }

std::string_view text_of(json::View object, std::string_view name) {
    auto const value = object.find(name);
    return value ? value->text().value_or("") : "";
}

Result<HfConfig> HfConfig::read(std::string const& folder) {
    auto const path = folder + "/" + kName;
    HEARTH_TRY(auto document, read_json(path, config_limits()));
    if (!document)
        return Error(Code::not_found, fmt::format("{}: no {} in it: not a model's folder", folder, kName), folder);
    return HfConfig(folder, *std::move(document));
}

Error HfConfig::wrong(std::string_view key, std::string_view what, Code code) const {
    auto path = folder_ + "/" + kName;
    auto message = fmt::format("{}: {}: {}", path, key, what);
    return Error(code, std::move(message), std::move(path));
}

Result<std::string> HfConfig::architecture() const {
    auto const named_by = [](std::optional<json::View> config) -> std::optional<std::string_view> {
        auto const list = config ? config->find("architectures") : std::nullopt;
        if (!list || list->size() == 0) return std::nullopt;
        return (*list->elements().begin()).text();
    };
    if (auto const name = named_by(document_.root().find("text_config"))) return std::string(*name);
    if (auto const name = named_by(document_.root())) return std::string(*name);
    return wrong("architectures", "names no architecture");
}

std::optional<json::View> HfConfig::find(std::initializer_list<std::string_view> keys) const {
    auto const text_config = document_.root().find("text_config");
    for (auto const key : keys) {
        if (auto const value = text_config ? text_config->find(key) : std::nullopt) return value;
        if (auto const value = document_.root().find(key)) return value;
    }
    return std::nullopt;
}

Result<std::uint32_t> HfConfig::count(std::initializer_list<std::string_view> keys, std::uint32_t max,
                                      std::uint32_t min) const {
    auto const value = find(keys);
    if (!value) return wrong(*keys.begin(), "is not there");
    auto const number = value->integer();
    if (!number) return wrong(*keys.begin(), fmt::format("is {}, not a whole number", describe(value->kind())));
    if (*number < min || *number > max)
        return wrong(*keys.begin(), fmt::format("{} is not within {} to {}", *number, min, max));
    return static_cast<std::uint32_t>(*number);
}

Result<std::uint32_t> HfConfig::count_or(std::initializer_list<std::string_view> keys, std::uint32_t absent,
                                         std::uint32_t max, std::uint32_t min) const {
    if (!find(keys)) return absent;
    return count(keys, max, min);
}

Result<std::optional<double>> HfConfig::real(std::initializer_list<std::string_view> keys) const {
    auto const value = find(keys);
    if (!value) return std::optional<double>();
    auto const number = value->number();
    if (!number) return wrong(*keys.begin(), fmt::format("is {}, not a number", describe(value->kind())));
    return number;
}

Result<double> HfConfig::real_or(std::initializer_list<std::string_view> keys, double absent) const {
    HEARTH_TRY(auto const value, real(keys));
    return value.value_or(absent);
}

bool HfConfig::is_true(std::string_view key) const {
    auto const value = find({key});
    return value && value->boolean().value_or(false);
}

}  // namespace hearth::convert
