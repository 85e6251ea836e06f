// Made-up traffic: the situations in which schedulers differ.
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "sim/workload.h"
#include "traffic/random.h"

namespace hearth::sim {
namespace {

using domain::Priority;
using traffic::Random;

std::uint32_t between(Random& random, std::uint32_t low, std::uint32_t high) {
    return low + static_cast<std::uint32_t>(random.below(high - low + 1));
}

// Chats of several turns that share a few system prompts; three tenants of
// unequal appetite, two classes, some clients that leave or read slowly.
Workload chat(ShapeOptions const& options) {
    constexpr std::uint32_t kTurns = 5;
    constexpr std::uint32_t kSystemPrompts = 4;
    Random random(options.seed);
    double const chats_per_s = (options.rate_per_s > 0 ? options.rate_per_s : 0.7) / kTurns;
    Workload workload{"chat", {}, 0};
    double at_ms = 0;
    while (workload.jobs.size() < options.requests) {
        at_ms += 1000 * random.exponential(chats_per_s);
        auto const system = random.below(kSystemPrompts);
        std::uint32_t const tenant = random.below(6) < 4 ? 0 : between(random, 1, 2);
        Priority const priority = random.below(4) == 0 ? Priority::batch : Priority::interactive;
        for (std::uint32_t turn = 0; turn < kTurns; ++turn) {
            Job job;
            job.tenant = tenant;
            job.priority = priority;
            job.output_tokens = between(random, 20, 160);
            if (turn == 0) {
                job.at_ms = at_ms;
                job.prompt.push_back({options.seed * 1000 + system, 300 + 100 * static_cast<std::uint32_t>(system)});
            } else {
                job.at_ms = 1000 * random.exponential(0.1);  // reading and typing
                job.after = static_cast<std::uint32_t>(workload.jobs.size() - 1);
                job.continues = true;
            }
            job.prompt.push_back({random.next(), between(random, 10, 200)});
            if (random.below(20) == 0) job.cancel_after_ms = 1000 * random.exponential(0.3);
            if (random.below(10) == 0) job.reads_tokens_per_s = 5;
            workload.jobs.push_back(std::move(job));
        }
    }
    return workload;
}

// One interactive user beside eight clients that send 600-token prompts one after another.
Workload busy(ShapeOptions const& options) {
    constexpr std::uint32_t kClients = 8;
    Random random(options.seed);
    Workload workload{"busy", {}, 0};
    std::vector<std::uint32_t> last(kClients + 1, kNoJob);
    while (workload.jobs.size() < options.requests) {
        for (std::uint32_t client = 0; client <= kClients; ++client) {
            bool const user = client == kClients;
            Job job;
            job.after = last[client];
            job.at_ms = user ? 1000 + 1000 * random.unit() : 0;
            job.tenant = client;
            job.priority = user ? Priority::interactive : Priority::normal;
            job.output_tokens = user ? 16 : 64;
            job.prompt.push_back({random.next(), user ? 30U : 600U});
            last[client] = static_cast<std::uint32_t>(workload.jobs.size());
            workload.jobs.push_back(std::move(job));
        }
    }
    return workload;
}

// Four clients with long prompts and two users with short questions, all in closed loops, all of one tenant; each
// group has a system prompt of its own. What tells policies apart: prefixes, classes and long prompts beside streams.
Workload mixed(ShapeOptions const& options) {
    constexpr std::uint32_t kClients = 4;
    constexpr std::uint32_t kUsers = 2;
    Random random(options.seed);
    Workload workload{"mixed", {}, 0};
    std::vector<std::uint32_t> last(kClients + kUsers, kNoJob);
    while (workload.jobs.size() < options.requests) {
        for (std::uint32_t i = 0; i < last.size(); ++i) {
            bool const user = i >= kClients;
            Job job;
            job.after = last[i];
            job.at_ms = user ? 200 + 300 * random.unit() : 0;
            job.priority = user ? Priority::interactive : Priority::normal;
            job.output_tokens = user ? 12 : 40;
            job.prompt.push_back({options.seed * 1000 + (user ? 1 : 0), user ? 150U : 300U});
            job.prompt.push_back({random.next(), user ? between(random, 20, 40) : between(random, 150, 400)});
            last[i] = static_cast<std::uint32_t>(workload.jobs.size());
            workload.jobs.push_back(std::move(job));
        }
    }
    return workload;
}

// Three streams that speak on and on; prompts of 2,000 and 8,000 tokens arrive.
Workload stall(ShapeOptions const& options) {
    constexpr double kPeriodMs = 60'000;
    Random random(options.seed);
    Workload workload{"stall", {}, 0};
    for (double begin = 0; workload.jobs.size() < options.requests; begin += kPeriodMs) {
        for (std::uint32_t i = 0; i < 5; ++i) {
            bool const stream = i < 3;
            Job job;
            job.tenant = i;
            job.at_ms = begin + (stream ? 0 : (i - 2) * 3000);
            job.priority = stream ? Priority::interactive : Priority::normal;
            job.output_tokens = stream ? 600 : 16;
            job.prompt.push_back({random.next(), stream ? 40U : i == 3 ? 2000U : 8000U});
            workload.jobs.push_back(std::move(job));
        }
    }
    return workload;
}

// Users who come at random, all with one of a few long system prompts.
Workload shared(ShapeOptions const& options) {
    constexpr std::uint32_t kSystemPrompts = 3;
    Random random(options.seed);
    double const rate_per_s = options.rate_per_s > 0 ? options.rate_per_s : 0.5;
    Workload workload{"shared", {}, 0};
    double at_ms = 0;
    while (workload.jobs.size() < options.requests) {
        at_ms += 1000 * random.exponential(rate_per_s);
        Job job;
        job.at_ms = at_ms;
        job.output_tokens = between(random, 16, 48);
        job.prompt.push_back({options.seed * 1000 + random.below(kSystemPrompts), 2000});
        job.prompt.push_back({random.next(), between(random, 10, 60)});
        workload.jobs.push_back(std::move(job));
    }
    return workload;
}

// A tenant with few chats beside one that sends a new 1,000-token prompt every second.
Workload flood(ShapeOptions const& options) {
    constexpr std::uint32_t kTurns = 6;
    Random random(options.seed);
    double const rate_per_s = options.rate_per_s > 0 ? options.rate_per_s : 1;
    Workload workload{"flood", {}, 0};
    double at_ms = 0;
    while (workload.jobs.size() < options.requests) {
        for (std::uint32_t turn = 0; turn < kTurns && workload.jobs.size() < options.requests; ++turn) {
            Job job;
            job.output_tokens = 32;
            job.prompt.push_back({random.next(), turn == 0 ? 600U : 40U});
            if (turn == 0) {
                job.at_ms = at_ms;
            } else {
                job.at_ms = 20'000 + 1000 * random.exponential(0.1);
                job.after = static_cast<std::uint32_t>(workload.jobs.size() - 1);
                job.continues = true;
            }
            workload.jobs.push_back(std::move(job));
        }
        double const chat_ends_ms = at_ms + 180'000;
        while (at_ms < chat_ends_ms && workload.jobs.size() < options.requests) {
            at_ms += 1000 * random.exponential(rate_per_s);
            Job job;
            job.at_ms = at_ms;
            job.tenant = 1;
            job.output_tokens = 16;
            job.prompt.push_back({random.next(), 1000});
            workload.jobs.push_back(std::move(job));
        }
    }
    return workload;
}

// Everybody at once, again and again; a tenth is interactive.
Workload burst(ShapeOptions const& options) {
    constexpr std::uint32_t kAtOnce = 500;
    constexpr double kPeriodMs = 120'000;
    Random random(options.seed);
    Workload workload{"burst", {}, 0};
    while (workload.jobs.size() < options.requests) {
        Job job;
        std::size_t const burst = workload.jobs.size() / kAtOnce;
        job.at_ms = static_cast<double>(burst) * kPeriodMs + random.unit();
        job.tenant = between(random, 0, 3);
        job.priority = random.below(10) == 0 ? Priority::interactive : Priority::normal;
        job.output_tokens = between(random, 8, 64);
        job.prompt.push_back({random.next(), between(random, 20, 300)});
        workload.jobs.push_back(std::move(job));
    }
    return workload;
}

struct Shape {
    ShapeInfo info;
    Workload (*make)(ShapeOptions const&);
};

// clang-format off
constexpr std::array kShapes{
    Shape{{"chat", "chats of five turns over four system prompts, three tenants, two classes"}, chat},
    Shape{{"busy", "one interactive user beside eight clients with 600-token prompts in closed loop"}, busy},
    Shape{{"mixed", "two interactive users beside four clients with long prompts, all in closed loops, two system prompts"}, mixed},
    Shape{{"stall", "three streams while prompts of 2,000 and 8,000 tokens arrive"}, stall},
    Shape{{"shared", "random users of three 2,000-token system prompts"}, shared},
    Shape{{"flood", "a tenant with one chat at a time beside one with a new 1,000-token prompt every second"}, flood},
    Shape{{"burst", "500 requests at once, every two minutes"}, burst},
};
// clang-format on

}  // namespace

std::span<ShapeInfo const> shapes() {
    static constexpr auto kInfos = [] {
        std::array<ShapeInfo, kShapes.size()> infos{};
        for (std::size_t i = 0; i < kShapes.size(); ++i) infos[i] = kShapes[i].info;
        return infos;
    }();
    return kInfos;
}

Result<Workload> shape_workload(std::string_view name, ShapeOptions const& options) {
    for (auto const& shape : kShapes) {
        if (shape.info.name == name) return shape.make(options);
    }
    std::string known;
    for (auto const& shape : kShapes) known += fmt::format("{}{}", known.empty() ? "" : ", ", shape.info.name);
    return Error(Code::invalid_argument, fmt::format("there is no shape '{}'; there are {}", name, known), "shape");
}

}  // namespace hearth::sim
