// What a tenant can learn of what another computed: nothing. Its requests are
// computed in the very same batches, whether another tenant has the prefix or not.
#include <gtest/gtest.h>

#include "engine/testing/driver.h"
#include "testing/memory_folder.h"

namespace hearth::engine {
namespace {

using kvstore::testing::MemoryFolder;
using testing::Driver;

constexpr std::size_t kPrompt = 400;

llama::ScriptedOptions scripted(bool needs_checkpoints) {
    auto options = testing::counting(12);
    options.needs_checkpoints = needs_checkpoints;
    return options;
}

domain::GenerateRequest ask(std::uint64_t text, char const* tenant, std::string salt = {}) {
    domain::GenerateRequest request;
    std::vector<domain::Token> tokens(kPrompt);
    for (std::size_t i = 0; i < kPrompt; ++i)
        tokens[i] = static_cast<domain::Token>('a' + (i * 7 + text * (i + 1)) % 26);
    request.prompt = domain::TokenPrompt{std::move(tokens)};
    request.sampling.temperature = 0;
    request.tenant = tenant;
    request.cache_salt = std::move(salt);
    return request;
}

// Where the victim's prefix is when somebody else asks.
enum class Place : std::uint8_t { cells, memory, disk, being_computed };

struct Seen {
    std::vector<std::size_t> batches;  // entries of each, from the question to the end of its answer
    std::uint32_t cached, computed, drafted;
    bool operator==(Seen const&) const = default;
};

// Until the request has ended and what it left is saved.
void settle(Driver& driver, RequestId id) {
    for (int i = 0; i < 1000 && !driver.of(id).done; ++i) {
        driver.run();
        driver.core.settle_tiers();
    }
    driver.run();
    driver.core.settle_tiers();
}

// What the prober sees when it asks for `text` after the victim asked for text 1.
Seen probe(Place place, bool needs_checkpoints, std::uint64_t text, domain::GenerateRequest request) {
    Options options;
    options.prompt_tokens = 64;
    options.tiers.memory_bytes = place == Place::memory ? 1U << 24 : 0;
    if (place == Place::disk) {
        options.tiers.folder = std::make_shared<MemoryFolder>();
        options.tiers.disk_bytes = 1U << 24;
    }
    Driver driver(scripted(needs_checkpoints), options);
    driver.submit(1, ask(1, "victim"));
    if (place == Place::being_computed) driver.step();
    else settle(driver, 1);
    if (place == Place::memory || place == Place::disk) driver.core.forget();
    driver.core.settle_tiers();
    std::size_t const before = driver.backend.batches.size();
    std::get<domain::TokenPrompt>(request.prompt) = std::get<domain::TokenPrompt>(ask(text, "").prompt);
    driver.submit(2, std::move(request));
    settle(driver, 2);
    Seen seen{};
    for (std::size_t i = before; i < driver.backend.batches.size(); ++i)
        seen.batches.push_back(driver.backend.batches[i].size());
    auto const& done = driver.of(2).done;
    EXPECT_TRUE(done.has_value());
    if (done) {
        seen.cached = done->usage.cached_tokens;
        seen.computed = done->timings.prompt_n;
        seen.drafted = done->timings.draft_n;
    }
    return seen;
}

class engine_tenants : public ::testing::TestWithParam<std::tuple<Place, bool>> {};

INSTANTIATE_TEST_SUITE_P(places, engine_tenants,
                         ::testing::Combine(::testing::Values(Place::cells, Place::memory, Place::disk,
                                                              Place::being_computed),
                                            ::testing::Bool()));

TEST_P(engine_tenants, see_the_same_steps_whatever_another_computed) {
    auto const [place, needs_checkpoints] = GetParam();
    auto const warmed = probe(place, needs_checkpoints, 1, ask(1, "prober"));
    auto const fresh = probe(place, needs_checkpoints, 2, ask(2, "prober"));
    EXPECT_EQ(warmed, fresh);
    EXPECT_EQ(warmed.cached, 0U);
    EXPECT_EQ(warmed.computed, kPrompt);
}

TEST_P(engine_tenants, see_the_same_steps_behind_another_salt) {
    auto const [place, needs_checkpoints] = GetParam();
    auto const warmed = probe(place, needs_checkpoints, 1, ask(1, "victim", "salt"));
    EXPECT_EQ(warmed, probe(place, needs_checkpoints, 2, ask(2, "victim", "salt")));
    EXPECT_EQ(warmed.cached, 0U);
}

// The probe does tell within a tenant: it can fail.
TEST(engine_tenants_probe, tells_what_the_tenant_itself_computed) {
    for (Place const place : {Place::cells, Place::memory, Place::disk}) {
        auto const own = probe(place, false, 1, ask(1, "victim"));
        EXPECT_NE(own, probe(place, false, 2, ask(2, "victim")));
        EXPECT_EQ(own.cached, kPrompt - 1);
    }
}

}  // namespace
}  // namespace hearth::engine
