#include "convert/plan.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "convert/convert.h"

namespace hearth::convert {
namespace {

constexpr std::size_t kDimensionsMax = 4;
constexpr std::size_t kExpertMatrices = 3;  // gate, up, down

}  // namespace

Error Planner::refuse(std::string_view name, Code code, std::string_view what) const {
    return {code, fmt::format("{}: tensor \"{}\": {}", folder_, name, what), folder_};
}

Status Planner::add(models::SafetensorsTensor const& source) {
    if (packed_ && collect(source)) return ok();
    HEARTH_TRY(auto const target, architecture_.target(source.name));
    if (!target) return ok();
    HEARTH_CHECK(check(source, *target));
    if (target->layer) layers_.insert(*target->layer);
    auto tensor = planned(source, *target);
    if (target->expert) return add_expert(*target, std::move(tensor));
    if (target->stacked) return add_stacked(*target, std::move(tensor));
    return keep(std::move(tensor));
}

Status Planner::check(models::SafetensorsTensor const& source, TensorTarget const& target) const {
    if (!element_type_of(source.type)) {
        return refuse(source.name, Code::unsupported,
                      fmt::format("its type {} is not converted; F32, F16 and BF16 are", to_string(source.type)));
    }
    if (source.bytes == 0 || source.shape.empty()) return refuse(source.name, Code::corrupt, "it is empty");
    if (target.squeeze && (source.shape.size() != 3 || source.shape[1] != 1))
        return refuse(source.name, Code::corrupt, "its second of three dimensions is not 1");
    if (source.shape.size() > kDimensionsMax)
        return refuse(source.name, Code::unsupported, fmt::format("it has more than {} dimensions", kDimensionsMax));
    if (target.heads > 0) HEARTH_CHECK(check_heads(source, target.heads));
    auto const rows = source.shape[0];
    auto const vocabulary = architecture_.vocabulary();
    if (target.name == "token_embd.weight" && (target.cut ? rows < vocabulary : rows != vocabulary)) {
        return refuse(source.name, Code::corrupt,
                      fmt::format("it has {} rows, config.json says vocab_size is {}", rows, vocabulary));
    }
    return ok();
}

Status Planner::check_heads(models::SafetensorsTensor const& source, std::uint32_t heads) const {
    auto const rows = source.shape[0];
    if (rows % (std::uint64_t{2} * heads) != 0)
        return refuse(source.name, Code::corrupt, fmt::format("{} rows are not {} heads of pairs", rows, heads));
    if (source.bytes / heads > kHeadBytesMax) {
        return refuse(source.name, Code::too_large,
                      fmt::format("a head of {} bytes; at most {} are converted", source.bytes / heads, kHeadBytesMax));
    }
    return ok();
}

PlannedTensor Planner::planned(models::SafetensorsTensor const& source, TensorTarget const& target) const {
    PlannedTensor tensor;
    auto& shape = tensor.output.shape;
    shape = source.shape;
    if (target.squeeze) shape.erase(shape.begin() + 1);
    auto bytes = source.bytes;
    if (target.cut) {
        bytes = bytes / shape[0] * architecture_.vocabulary();
        shape[0] = architecture_.vocabulary();
    }
    tensor.output.name = target.name;
    tensor.output.type = Architecture::type_of(target.name, shape.size(), type_);
    tensor.sources.push_back({.tensor = &source, .bytes = bytes});
    tensor.heads = target.heads;
    tensor.shift = target.shift;
    return tensor;
}

Status Planner::add_rope_factors(std::vector<float> factors) {
    if (factors.empty()) return ok();
    PlannedTensor tensor;
    tensor.output = {.name = "rope_freqs.weight", .shape = {factors.size()}, .type = ElementType::f32};
    tensor.values = std::move(factors);
    return keep(std::move(tensor));
}

Result<std::vector<PlannedTensor>> Planner::finish() {
    for (auto const& [name, tensors] : matrices_) HEARTH_CHECK(add_packed(name, tensors));
    if (!experts_.empty()) {
        return Error(Code::corrupt,
                     fmt::format("{}: not all matrices of the {} experts of layer {} are there", folder_,
                                 architecture_.experts(), experts_.begin()->first),
                     folder_);
    }
    if (layers_.size() != architecture_.layers()) {
        return Error(Code::corrupt,
                     fmt::format("{}: tensors of {} layers, config.json says there are {}", folder_, layers_.size(),
                                 architecture_.layers()),
                     folder_);
    }
    return std::move(plan_);
}

// All experts in one tensor: as it is, or each expert's rows in halves.
Status Planner::add_stacked(TensorTarget const& target, PlannedTensor tensor) {
    auto const& source = *tensor.sources.front().tensor;
    tensor.experts = architecture_.experts();
    auto const& shape = source.shape;
    if (shape.size() != 3 || shape[0] != tensor.experts) {
        return refuse(source.name, Code::corrupt,
                      fmt::format("it is not one matrix for each of {} experts", tensor.experts));
    }
    if (target.second.empty()) return keep(std::move(tensor));
    if (shape[1] % 2 != 0)
        return refuse(source.name, Code::corrupt, fmt::format("its {} rows are no two halves", shape[1]));
    auto const half = source.bytes / tensor.experts / 2;
    tensor.output.shape[1] /= 2;
    tensor.sources.clear();
    auto second = tensor;
    second.output.name = target.second;
    for (std::uint64_t expert = 0; expert < tensor.experts; ++expert) {
        tensor.sources.push_back({.tensor = &source, .offset = 2 * expert * half, .bytes = half});
        second.sources.push_back({.tensor = &source, .offset = (2 * expert + 1) * half, .bytes = half});
    }
    HEARTH_CHECK(keep(std::move(tensor)));
    return keep(std::move(second));
}

// The matrices of a layer's experts become three tensors, placed where the last of them is found.
Status Planner::add_expert(TensorTarget const& target, PlannedTensor tensor) {
    auto const count = architecture_.experts();
    bool const packed = !tensor.packed.empty();
    auto const& name = packed ? tensor.packed.front().qweight->name : tensor.sources.front().tensor->name;
    auto const& shape = tensor.output.shape;
    auto& [whole, found] = experts_[target.layer.value_or(0)][target.matrix];
    if (found == 0) {
        whole = tensor;
        whole.experts = count;
        whole.sources.assign(packed ? 0 : count, {});
        whole.packed.assign(packed ? count : 0, {});
        whole.output.shape.insert(whole.output.shape.begin(), count);
        whole.output.type = Architecture::type_of(whole.output.name, whole.output.shape.size(), type_);
    }
    if (shape.size() != 2 || shape[0] != whole.output.shape[1] || shape[1] != whole.output.shape[2] ||
        whole.output.storage != tensor.output.storage)
        return refuse(name, Code::corrupt, "it has not the shape or the packing of the other experts");
    auto const place = *target.expert;
    if (packed ? whole.packed[place].qweight != nullptr : whole.sources[place].tensor != nullptr)
        return refuse(name, Code::corrupt, "two tensors of the folder are this one");
    if (packed) whole.packed[place] = tensor.packed.front();
    else whole.sources[place] = tensor.sources.front();
    ++found;
    return place_if_whole(target.layer.value_or(0));
}

Status Planner::place_if_whole(std::uint32_t layer) {
    auto& groups = experts_[layer];
    if (groups.size() < kExpertMatrices) return ok();
    for (auto const& [name, group] : groups) {
        if (group.found < architecture_.experts()) return ok();
    }
    // In the order of their names in the folder, which is upstream's.
    for (auto& [name, group] : groups) HEARTH_CHECK(keep(std::move(group.tensor)));
    experts_.erase(layer);
    return ok();
}

// Whether it is a part of a packed matrix, whose parts may lie in several shards.
bool Planner::collect(models::SafetensorsTensor const& source) {
    auto const dot = source.name.rfind('.');
    if (dot == std::string::npos) return false;
    auto const part = std::string_view(source.name).substr(dot + 1);
    auto const into = [&](models::SafetensorsTensor const* PackedTensors::* member) {
        matrices_[source.name.substr(0, dot)].*member = &source;
        return true;
    };
    if (part == "qweight") return into(&PackedTensors::qweight);
    if (part == "qzeros") return into(&PackedTensors::qzeros);
    if (part == "scales") return into(&PackedTensors::scales);
    if (part == "g_idx") return into(&PackedTensors::g_idx);
    return false;
}

Status Planner::add_packed(std::string const& name, PackedTensors const& tensors) {
    HEARTH_TRY(auto const target, architecture_.target(name + ".weight"));
    if (!target) return ok();
    if (target->stacked)
        return refuse(name, Code::unsupported, "packed matrices of all experts in one are not converted");
    PlannedTensor tensor;
    HEARTH_TRY(tensor.packed_shape, packed_shape(*packed_, tensors, name));
    auto const rows = tensor.packed_shape.rows;
    if (target->heads > 0 && rows % (std::uint64_t{2} * target->heads) != 0)
        return refuse(name, Code::corrupt, fmt::format("{} rows are not {} heads of pairs", rows, target->heads));
    if (target->layer) layers_.insert(*target->layer);
    tensor.output = {.name = target->name,
                     .shape = {rows, tensor.packed_shape.columns},
                     .type = ElementType::f32,
                     .storage = Storage::q4_1};
    tensor.heads = target->heads;
    tensor.packed.push_back(tensors);
    return target->expert ? add_expert(*target, std::move(tensor)) : keep(std::move(tensor));
}

Status Planner::keep(PlannedTensor tensor) {
    if (!names_.insert(tensor.output.name).second)
        return refuse(tensor.output.name, Code::corrupt, "two tensors of the folder are this one");
    plan_.push_back(std::move(tensor));
    return ok();
}

}  // namespace hearth::convert
