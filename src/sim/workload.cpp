#include "sim/workload.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "traffic/random.h"

namespace hearth::sim {
namespace {

std::uint64_t mix(std::uint64_t a, std::uint64_t b) { return traffic::Random(a ^ (b * 0xD6E8FEB86659FD93ULL)).next(); }

// Distinct streams of one seed.
constexpr std::uint64_t kOwnText = 1;
constexpr std::uint64_t kBlocks = 2;

std::uint32_t scaled(std::uint32_t tokens, double scale) {
    return static_cast<std::uint32_t>(std::max(1.0, std::round(tokens * scale)));
}

// Spreads `tokens` over the row's blocks as the recorded ones were.
std::vector<Segment> block_segments(traffic::TraceRow const& row, std::uint32_t tokens, TraceShape const& shape) {
    double const per_block = traffic::kMooncakeBlockTokens * shape.length_scale;
    std::vector<Segment> segments;
    std::uint32_t given = 0;
    for (std::size_t i = 0; i < row.blocks.size() && given < tokens; ++i) {
        bool const last = i + 1 == row.blocks.size();
        double const until = last ? tokens : std::round(per_block * static_cast<double>(i + 1));
        auto const end = static_cast<std::uint32_t>(std::min<double>(tokens, until));
        if (end == given) continue;
        segments.push_back({mix(shape.seed, mix(kBlocks, row.blocks[i])), end - given});
        given = end;
    }
    return segments;
}

}  // namespace

void append_tokens(Segment segment, std::uint32_t vocabulary, std::vector<Token>& out) {
    traffic::Random random(segment.seed);
    out.reserve(out.size() + segment.tokens);
    for (std::uint32_t i = 0; i < segment.tokens; ++i) out.push_back(static_cast<Token>(random.below(vocabulary)));
}

Workload trace_workload(std::vector<traffic::TraceRow> const& rows, TraceShape const& shape) {
    Workload workload{"trace", {}, 0};
    workload.jobs.reserve(rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        auto const& row = rows[i];
        Job job;
        job.at_ms = row.at_s * 1000 * shape.time_scale;
        job.output_tokens = std::min(scaled(row.output_tokens, shape.length_scale), shape.context / 2);
        std::uint32_t const most = shape.context - job.output_tokens;
        std::uint32_t const wanted = scaled(row.prompt_tokens, shape.length_scale);
        workload.cut += wanted > most ? 1 : 0;
        std::uint32_t const tokens = std::min(wanted, most);
        if (row.blocks.empty()) {
            job.prompt.push_back({mix(shape.seed, mix(kOwnText, i)), tokens});
            job.tenant = static_cast<std::uint32_t>(i % shape.tenants);
        } else {
            job.prompt = block_segments(row, tokens, shape);
        }
        workload.jobs.push_back(std::move(job));
    }
    return workload;
}

std::string to_json(Workload const& workload) {
    using Json = nlohmann::ordered_json;
    Json jobs = Json::array();
    for (auto const& job : workload.jobs) {
        Json prompt = Json::array();
        for (auto const& segment : job.prompt) prompt.push_back({segment.seed, segment.tokens});
        jobs.push_back({{"at_ms", job.at_ms},
                        {"after", job.after == kNoJob ? Json(nullptr) : Json(job.after)},
                        {"continues", job.continues},
                        {"prompt", std::move(prompt)},
                        {"output_tokens", job.output_tokens},
                        {"priority", domain::to_string(job.priority)},
                        {"tenant", job.tenant}});
    }
    return Json{{"name", workload.name}, {"jobs", std::move(jobs)}}.dump();
}

}  // namespace hearth::sim
