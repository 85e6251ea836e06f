// EngineHistory: what an engine did, kept for its report. Counts, and a short
// memory of the last steps; no part of any decision.
//
// Threads: one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "domain/engine_report.h"

namespace hearth::engine {

class EngineHistory {
public:
    static constexpr std::size_t kTenantsMax = 4096;  // beyond, the one with least computed is forgotten

    void step(domain::StepReport step) {
        if (steps_.size() < domain::kReportStepsMax) {
            steps_.push_back(step);
        } else {
            steps_[oldest_] = step;
            oldest_ = (oldest_ + 1) % steps_.size();
        }
        us_ += static_cast<std::uint64_t>(std::max(step.ms, 0.0) * 1000);
    }

    void admitted(std::uint32_t prompt_tokens, std::uint32_t reused_tokens) {
        prompt_tokens_ += prompt_tokens;
        reused_tokens_ += reused_tokens;
    }
    void evicted() { ++evictions_; }

    void computed(std::string const& tenant, std::uint64_t tokens) {
        if (tenants_.size() >= kTenantsMax && !tenants_.contains(tenant)) {
            auto const less = [](auto const& a, auto const& b) { return a.second < b.second; };
            tenants_.erase(std::min_element(tenants_.begin(), tenants_.end(), less));
        }
        tenants_[tenant] += tokens;
    }

    // Oldest first.
    [[nodiscard]] std::vector<domain::StepReport> steps() const {
        auto out = steps_;
        std::rotate(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(oldest_), out.end());
        return out;
    }
    [[nodiscard]] std::map<std::string, std::uint64_t> const& tenants() const { return tenants_; }
    [[nodiscard]] std::uint64_t step_us() const { return us_; }
    [[nodiscard]] std::uint64_t prompt_tokens() const { return prompt_tokens_; }
    [[nodiscard]] std::uint64_t reused_tokens() const { return reused_tokens_; }
    [[nodiscard]] std::uint64_t evictions() const { return evictions_; }

private:
    std::vector<domain::StepReport> steps_;
    std::size_t oldest_ = 0;
    std::map<std::string, std::uint64_t> tenants_;
    std::uint64_t us_ = 0;
    std::uint64_t prompt_tokens_ = 0;
    std::uint64_t reused_tokens_ = 0;
    std::uint64_t evictions_ = 0;
};

}  // namespace hearth::engine
