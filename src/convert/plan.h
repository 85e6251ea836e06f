// Plan: which bytes of the folder become which tensor of the file, decided before
// anything is written, and everything about it checked.
//
// The tensors are in upstream's order: as in the folder, matrices of experts where
// the last of their layer is found, packed ones behind the others.
//
// Threads: one. Ownership: a plan views the model's tensors, which must outlive it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "convert/architecture.h"
#include "convert/gguf_output.h"
#include "convert/packed.h"
#include "models/safetensors.h"

namespace hearth::convert {

// A part of a tensor of the folder.
struct SourcePiece {
    models::SafetensorsTensor const* tensor = nullptr;
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
};

struct PlannedTensor {
    OutputTensor output;
    std::vector<SourcePiece> sources;  // one behind the other; none: `values` or `packed`
    std::uint32_t experts = 1;         // whose matrices are in it
    std::uint32_t heads = 0;           // as TensorTarget
    float shift = 0;
    std::vector<float> values;
    std::vector<PackedTensors> packed;  // where the output's storage is q4_1; one behind the other, all of one shape
    PackedShape packed_shape;
};

class Planner {
public:
    // REQUIRES: `architecture` and `folder` outlive this
    Planner(Architecture const& architecture, ElementType type, std::optional<PackedFormat> packed,
            std::string const& folder)
        : architecture_(architecture), type_(type), packed_(packed), folder_(folder) {}

    // `unsupported` and `corrupt` name the tensor.
    [[nodiscard]] Status add(models::SafetensorsTensor const& source);

    // REQUIRES: before any add(); upstream's order
    [[nodiscard]] Status add_rope_factors(std::vector<float> factors);

    // `corrupt` if layers or experts are not all there.
    [[nodiscard]] Result<std::vector<PlannedTensor>> finish();

private:
    [[nodiscard]] Status check(models::SafetensorsTensor const& source, TensorTarget const& target) const;
    [[nodiscard]] Status check_heads(models::SafetensorsTensor const& source, std::uint32_t heads) const;
    [[nodiscard]] PlannedTensor planned(models::SafetensorsTensor const& source, TensorTarget const& target) const;
    Status add_stacked(TensorTarget const& target, PlannedTensor tensor);
    Status add_expert(TensorTarget const& target, PlannedTensor tensor);
    Status place_if_whole(std::uint32_t layer);
    bool collect(models::SafetensorsTensor const& source);
    Status add_packed(std::string const& name, PackedTensors const& tensors);
    Status keep(PlannedTensor tensor);
    [[nodiscard]] Error refuse(std::string_view name, Code code, std::string_view what) const;

    // The matrices of one name of a layer's experts, as one tensor.
    struct Experts {
        PlannedTensor tensor;
        std::uint32_t found = 0;  // of its pieces; the others are null
    };

    Architecture const& architecture_;
    ElementType const type_;
    std::optional<PackedFormat> const packed_;
    std::string const& folder_;
    std::map<std::string, PackedTensors> matrices_;
    std::map<std::uint32_t, std::map<std::string, Experts>> experts_;  // by layer and name, until they are whole
    std::vector<PlannedTensor> plan_;
    std::set<std::string> names_;
    std::set<std::uint32_t> layers_;
};

}  // namespace hearth::convert
