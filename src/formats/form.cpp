#include "formats/form.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/ascii.h"
#include "base/assert.h"
#include "llama/quantize.h"

namespace hearth::formats {
namespace {

struct ProfileEntry {
    std::string_view name;
    std::string_view type;  // empty: as the source has them
};
// In the order of Profile.
constexpr std::array<ProfileEntry, 4> kProfiles{
    {{"fast", "Q4_1"}, {"balanced", "Q5_K_M"}, {"quality", "Q8_0"}, {"full", ""}}};

constexpr double kFullBits = 16;

Form form_named(std::string_view type) {
    auto const types = llama::quantized_types();
    auto const found = std::ranges::find(types, type, &llama::QuantizedType::name);
    HEARTH_ASSERT(found != types.end(), "the type is known");
    return {.type = std::string(found->name), .file_type = found->file_type, .bits = found->bits};
}

}  // namespace

std::string_view to_string(Profile profile) noexcept { return kProfiles[static_cast<std::size_t>(profile)].name; }

Form form_of(Profile profile) noexcept {
    auto const type = kProfiles[static_cast<std::size_t>(profile)].type;
    return type.empty() ? Form() : form_named(type);
}

Result<Form> parse_form(std::string_view text) {
    auto const lower = ascii_lower(text);
    for (std::size_t i = 0; i < kProfiles.size(); ++i) {
        if (kProfiles[i].name == lower) return form_of(static_cast<Profile>(i));
    }
    for (auto const& type : llama::quantized_types()) {
        if (ascii_lower(type.name) == lower) return form_named(type.name);
    }
    // Short names that upstream's own tool takes.
    constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kShort{
        {{"q3_k", "Q3_K_M"}, {"q4_k", "Q4_K_M"}, {"q5_k", "Q5_K_M"}}};
    for (auto const& [name, type] : kShort) {
        if (name == lower) return form_named(type);
    }
    return Error(Code::invalid_argument,
                 fmt::format("'{}' is neither a profile nor a type of weights; there are {}", text, form_names()),
                 "quantize");
}

std::string form_names() {
    auto const types = llama::quantized_types();
    std::vector<std::string_view> names;
    names.reserve(std::size(kProfiles) + types.size());
    for (auto const& profile : kProfiles) names.push_back(profile.name);
    for (auto const& type : types) names.push_back(type.name);
    return fmt::format("{}", fmt::join(names, ", "));
}

Profile choose_profile(std::uint64_t parameters, std::uint64_t free_bytes, AutoThresholds const& thresholds) {
    auto const weights = static_cast<double>(parameters) / 8;
    auto const fits = [&](double bits, std::uint32_t percent) {
        return weights * bits * 100 <= static_cast<double>(free_bytes) * percent;
    };
    if (fits(kFullBits, thresholds.full_percent)) return Profile::full;
    if (fits(form_of(Profile::quality).bits, thresholds.quality_percent)) return Profile::quality;
    if (fits(form_of(Profile::balanced).bits, thresholds.balanced_percent)) return Profile::balanced;
    return Profile::fast;
}

}  // namespace hearth::formats
