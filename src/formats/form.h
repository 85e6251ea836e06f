// Form: how the weights of a model are to be kept, by profile or by type.
//
// A profile is a promise about size and speed; which type keeps it is said in one
// table here. `fast` is Q4_1 and `quality` Q8_0, since Hearth's own kernels compute
// with those (docs/determinism.md); between them Q5_K_M loses least for its size.
//
// Threads: none; pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::formats {

enum class Profile : std::uint8_t { fast, balanced, quality, full };

[[nodiscard]] std::string_view to_string(Profile) noexcept;

struct Form {
    std::string type;             // upstream's name of it, in capitals: "Q4_1"; empty: as the source has them
    std::uint32_t file_type = 0;  // general.file_type of such a file; of no meaning without a type
    double bits = 0;              // a weight's, about; 0 without a type

    [[nodiscard]] bool as_source() const { return type.empty(); }
    bool operator==(Form const&) const = default;
};

[[nodiscard]] Form form_of(Profile) noexcept;

// A profile's name, or a type's in any case. `invalid_argument` lists what there is.
// "auto" is no form: see choose_profile().
[[nodiscard]] Result<Form> parse_form(std::string_view text);

// What parse_form() takes, for messages and help.
[[nodiscard]] std::string form_names();

// The part of the free memory that weights may take at most, in per cent, for a
// profile to be chosen: a model that leaves little room for its cache and for
// others is made small, one that takes little anyway is left exact.
struct AutoThresholds {
    std::uint32_t full_percent = 10;
    std::uint32_t quality_percent = 30;
    std::uint32_t balanced_percent = 55;
};

// What `auto` means for a model of so many parameters where so many bytes are
// free: the first of full (16 bits a weight), quality, balanced whose weights fit
// into its part; fast if none does. Whether that fits is not asked here.
[[nodiscard]] Profile choose_profile(std::uint64_t parameters, std::uint64_t free_bytes,
                                     AutoThresholds const& thresholds = {});

}  // namespace hearth::formats
