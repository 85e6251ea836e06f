#include "sim/costs.h"

#include <array>
#include <fstream>
#include <iterator>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace hearth::sim {
namespace {

using Json = nlohmann::json;

constexpr double kCostMax = 1e6;
constexpr int kDepthMax = 16;  // of what is looked through for the object

struct Weight {
    char const* name;
    double Costs::* field;
};

// A thousand positions in milliseconds is one in microseconds.
constexpr std::array kWeights{
    Weight{"base_ms", &Costs::step_ms},
    Weight{"per_decode_ms", &Costs::row_ms},
    Weight{"per_prompt_token_ms", &Costs::prompt_token_ms},
    Weight{"per_1000_attended_ms", &Costs::attended_us},
};

Json const* find_cost(Json const& json, int depth) {
    if (json.is_object() && json.contains(kWeights.front().name)) return &json;
    if (!json.is_structured() || depth == kDepthMax) return nullptr;
    for (auto const& inner : json) {
        if (auto const* found = find_cost(inner, depth + 1)) return found;
    }
    return nullptr;
}

}  // namespace

Result<Costs> learnt_costs(std::string_view json, Costs costs) {
    auto const parsed = Json::parse(json, nullptr, false);
    auto const* const cost = parsed.is_discarded() ? nullptr : find_cost(parsed, 0);
    if (cost == nullptr)
        return Error(Code::invalid_argument, "no \"cost\" of GET /api/v1/engine is in it", "cost-from");
    double sum = 0;
    for (auto const& weight : kWeights) {
        auto const value = cost->find(weight.name);
        bool const good =
            value != cost->end() && value->is_number() && value->get<double>() >= 0 && value->get<double>() <= kCostMax;
        if (!good) {
            return Error(Code::invalid_argument,
                         fmt::format("{} must be a number from 0 to {}, got {}", weight.name, kCostMax,
                                     value == cost->end() ? "nothing" : value->dump()),
                         "cost-from");
        }
        costs.*weight.field = value->get<double>();
        sum += costs.*weight.field;
    }
    if (sum > 0) return costs;
    return Error(Code::invalid_argument, "all costs are 0: the server had computed nothing yet", "cost-from");
}

Result<Costs> read_costs(std::string const& path, Costs costs) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return Error(Code::io, fmt::format("cannot read {}", path), "cost-from");
    std::string text(kCostFileBytesMax + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
    if (file.bad()) return Error(Code::io, fmt::format("cannot read {}", path), "cost-from");
    if (text.size() > kCostFileBytesMax) {
        return Error(
            Code::invalid_argument,
            fmt::format("{} is larger than {} bytes, the most a file of costs may have", path, kCostFileBytesMax),
            "cost-from");
    }
    auto learnt = learnt_costs(text, costs);
    if (learnt) return learnt;
    return Error(learnt.error().code, fmt::format("{}: {}", path, learnt.error().message), "cost-from");
}

}  // namespace hearth::sim
