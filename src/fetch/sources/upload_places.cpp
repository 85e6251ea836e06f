// The half of push.h that remembers uploads.
#include <algorithm>
#include <fstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "fetch/sources/push.h"
#include "fetch/whole_file.h"

namespace hearth::fetch {
namespace {

constexpr std::size_t kFileBytesMax = 1U << 20;

// ["BLOB", "URL", CLASS]; none for anything else.
std::optional<std::pair<std::string, UploadPlaces::Place>> entry_of(nlohmann::json const& json) {
    bool const whole = json.is_array() && json.size() == 3 && json[0].is_string() && json[1].is_string() &&
                       json[2].is_number_unsigned() &&
                       json[2].get<std::uint64_t>() <= static_cast<std::uint64_t>(AddressClass::everywhere);
    if (!whole) return std::nullopt;
    auto url = parse_url(json[1].get<std::string>());
    if (!url) return std::nullopt;
    return std::pair(json[0].get<std::string>(),
                     UploadPlaces::Place{*std::move(url), static_cast<AddressClass>(json[2].get<std::uint8_t>())});
}

}  // namespace

UploadPlaces::UploadPlaces(std::string file) : file_(std::move(file)) {
    std::ifstream in(file_, std::ios::binary);
    std::string text(kFileBytesMax + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
    auto const root = nlohmann::json::parse(text, nullptr, false);
    if (text.size() > kFileBytesMax || !root.is_array()) return;
    for (auto const& json : root) {
        auto entry = entry_of(json);
        if (entry && places_.size() < kUploadsKept) places_.push_back(*std::move(entry));
    }
}

std::optional<UploadPlaces::Place> UploadPlaces::find(std::string const& blob) const {
    auto const at = std::ranges::find(places_, blob, &std::pair<std::string, Place>::first);
    return at == places_.end() ? std::nullopt : std::optional(at->second);
}

void UploadPlaces::keep(std::string const& blob, Place place) {
    if (find(blob) == place) return;
    std::erase_if(places_, [&](auto const& entry) { return entry.first == blob; });
    if (places_.size() >= kUploadsKept) places_.erase(places_.begin());
    places_.emplace_back(blob, std::move(place));
    save();
}

void UploadPlaces::forget(std::string const& blob) {
    if (std::erase_if(places_, [&](auto const& entry) { return entry.first == blob; }) > 0) save();
}

// What is lost costs an upload from its beginning, no more.
void UploadPlaces::save() const {
    if (file_.empty()) return;
    auto root = nlohmann::json::array();
    for (auto const& [blob, place] : places_)
        root.push_back(nlohmann::json::array({blob, place.url.text(), static_cast<unsigned>(place.led_from)}));
    static_cast<void>(write_whole(file_, root.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
}

}  // namespace hearth::fetch
