#include "engine/public_prefixes.h"

#include <gtest/gtest.h>

#include "engine/testing/driver.h"
#include "llama/scripted_backend.h"

namespace hearth::engine {
namespace {

using Texts = std::vector<std::string>;

std::vector<Token> chat(llama::Backend const& backend, std::string system, std::string user) {
    auto const rendered = backend.render_chat({{{"system", std::move(system)}, {"user", std::move(user)}}, true});
    EXPECT_TRUE(rendered);
    return rendered ? rendered->tokens : std::vector<Token>{};
}

TEST(PublicPrefixes, AConversationBeginsWithOneUpToWhatTheUserSays) {
    auto const backend = llama::make_scripted({});
    Texts const texts{"Be kind."};
    PublicPrefixes const prefixes(*backend, texts);
    auto const prompt = chat(*backend, "Be kind.", "why?");
    auto const other = chat(*backend, "Be kind.", "\n\nand how?");
    auto const common = static_cast<std::uint32_t>(std::ranges::mismatch(prompt, other).in1 - prompt.begin());
    EXPECT_EQ(prefixes.match(prompt), common);
    EXPECT_EQ(prefixes.match(other), common);
    EXPECT_EQ(prefixes.tokens(), std::vector<std::uint32_t>{common});
    EXPECT_EQ(prefixes.match(std::span(prompt).first(common - 1)), 0U) << "not all of it";
    EXPECT_EQ(prefixes.match(chat(*backend, "Be kind. Or not.", "why?")), 0U) << "another system message";
    EXPECT_EQ(prefixes.match(chat(*backend, "", "Be kind.")), 0U) << "said by the user";
}

TEST(PublicPrefixes, OfSeveralTheLongestCounts) {
    auto const backend = llama::make_scripted({});
    Texts const texts{"abc", "abcdef"};
    PublicPrefixes const prefixes(*backend, texts);
    auto const tokens_of = [&](std::string const& text) { return *backend->tokenize(text, {}); };
    EXPECT_EQ(prefixes.match(tokens_of("abcdefgh")), tokens_of("abcdef").size());
    EXPECT_EQ(prefixes.match(tokens_of("abcdxx")), tokens_of("abc").size());
    EXPECT_EQ(prefixes.match(tokens_of("xabcdef")), 0U);
}

TEST(PublicPrefixes, WithoutATemplateTheTextAloneCounts) {
    llama::ScriptedOptions options;
    options.chat_template = false;
    auto const backend = llama::make_scripted(options);
    Texts const texts{"abc"};
    PublicPrefixes const prefixes(*backend, texts);
    EXPECT_EQ(prefixes.tokens(), std::vector<std::uint32_t>{0});
    EXPECT_EQ(prefixes.match(*backend->tokenize("abcd", {})), 3U);
}

// --- as tenants see it ---

struct Tenants : testing::Driver {
    explicit Tenants(llama::ScriptedOptions scripted = one_word(), Options engine = options())
        : Driver(std::move(scripted), std::move(engine)), public_preparer(backend, 1, texts) {}

    static llama::ScriptedOptions one_word() {
        llama::ScriptedOptions out;
        out.pieces = {"a"};
        return out;
    }
    static Options options() { return {.prompt_tokens = kPromptTokens, .reserve_output = false}; }

    static domain::GenerateRequest request(std::string const& tenant, std::string text, std::string salt = {}) {
        domain::GenerateRequest out;
        out.prompt = domain::TextPrompt{std::move(text)};
        out.sampling.temperature = 0;
        out.max_tokens = 2;
        out.tenant = tenant;
        out.cache_salt = std::move(salt);
        return out;
    }
    void send(std::string const& tenant, std::string text, std::string salt = {}) {
        send(request(tenant, std::move(text), std::move(salt)));
    }
    void send(domain::GenerateRequest request) {
        auto prepared = public_preparer.prepare(++id, std::move(request), clock.now());
        EXPECT_TRUE(prepared);
        core.add(std::move(prepared).value());
    }
    [[nodiscard]] std::uint32_t cached(RequestId of_id) {
        return of(of_id).started ? of(of_id).started->cached_tokens : 0;
    }

    // Tokens of its prompt that were cached.
    std::uint32_t ask(std::string const& tenant, std::string text, std::string salt = {}) {
        send(tenant, std::move(text), std::move(salt));
        run();
        return cached(id);
    }

    // The third goes on otherwise than the first after its half.
    Texts texts{std::string(40, 'p'), std::string(600, 'q'), std::string(20, 'p') + std::string(20, 's')};
    Preparer public_preparer;
    RequestId id = 0;
};

TEST(PublicPrefixesOfTenants, AreSharedAndNothingBehindThem) {
    Tenants tenants;
    auto const text = std::string(40, 'p') + "what the first one said";
    EXPECT_EQ(tenants.ask("a", text), 0U);
    EXPECT_EQ(tenants.ask("b", text), 40U) << "the public part, though the other's is the same to the end";
    EXPECT_EQ(tenants.ask("b", text), text.size() - 1);
    EXPECT_EQ(tenants.ask("a", text), text.size() - 1);
    EXPECT_EQ(tenants.ask("a", text, "salt"), 0U) << "a salt shares with nobody";
    EXPECT_EQ(tenants.ask("c", std::string(39, 'p') + "x"), 0U) << "not the whole of it";
    auto const report = tenants.core.report();
    EXPECT_EQ(report.public_cells, 40U);
    ASSERT_EQ(report.tenants.size(), 3U);
    for (auto const& tenant : report.tenants) {
        EXPECT_GT(tenant.cells, 0U) << tenant.tenant;
        EXPECT_EQ(tenant.idle_cells, tenant.cells) << tenant.tenant;
        EXPECT_DOUBLE_EQ(tenant.cache_share, 0.25) << "three, and what is public";
    }
}

TEST(PublicPrefixesOfTenants, AreWaitedForWhileAnotherTenantComputesThem) {
    Tenants tenants;
    auto const text = std::string(600, 'q') + "and the same beyond";
    tenants.send("a", text);
    tenants.send("b", text);
    tenants.run();
    EXPECT_EQ(tenants.cached(1), 0U);
    EXPECT_GE(tenants.cached(2), 512U) << "all but a rest too small to wait for";
    EXPECT_LE(tenants.cached(2), 600U) << "and nothing of what is not public";
    tenants.expect_empty();
}

// A context that shifts drops half of what is public, so that what was said behind it stands in its place. That
// stays the tenant's, also when it was swapped out and came back: it would tell what is not the tenant's own.
TEST(PublicPrefixesOfTenants, DoNotGrowByWhatAShiftedContextKeeps) {
    for (bool const swapped : {false, true}) {
        auto scripted = testing::counting(100);
        scripted.kv_cells = 200;
        scripted.context_request = 80;
        Tenants tenants(scripted, {.prompt_tokens = Tenants::kPromptTokens, .credit = 25, .reserve_output = false});
        auto shifting = Tenants::request("a", std::string(40, 'p') + std::string(20, 's'));
        shifting.overflow = domain::Overflow::shift;
        shifting.keep_tokens = 20;
        shifting.discard_tokens = 20;
        shifting.max_tokens = 30;
        tenants.send(std::move(shifting));
        tenants.run();  // 20 tokens fill the context, with the 25th its reader falls behind
        EXPECT_EQ(tenants.core.stats().shifts_total, 1U);
        if (swapped) {
            tenants.core.forget();
            for (char const letter : {'x', 'y', 'z'}) tenants.send("c", std::string(75, letter));
            tenants.run();
            EXPECT_EQ(tenants.core.stats().preemptions_total, 1U) << "the others needed its cells";
        }
        tenants.core.grant(1, 100);
        tenants.run();
        ASSERT_TRUE(tenants.of(1).done.has_value());
        EXPECT_EQ(tenants.of(1).tokens(), 30U);
        EXPECT_LE(tenants.core.report().public_cells, 40U) << "the prefix itself";
        auto const same = std::string(20, 'p') + std::string(20, 's') + "and more";
        EXPECT_EQ(tenants.ask("b", same), 20U) << "the half that was kept, not what the other said behind it";
        EXPECT_GT(tenants.ask("a", same), 20U) << "it is there";
        tenants.expect_empty();
    }
}

}  // namespace
}  // namespace hearth::engine
