// The libllama backend on stories260K (260,000 parameters, real text).

#include "llama/libllama_backend.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <ggml-backend.h>

#include "llama/cpu_variants.h"
#include "llama/kernels_revision.h"
#include "llama/testing/backend_probe.h"

namespace hearth::llama {
namespace {

using namespace testing;

std::string stories() { return shared_model("stories260Ktok512.gguf"); }

class Stories : public ::testing::Test {
protected:
    void SetUp() override {
        if (stories().empty()) GTEST_SKIP() << "../shared/models/stories260Ktok512.gguf is not there";
        backend_ = load_or_die(small_options(stories()));
        ASSERT_NE(backend_, nullptr);
    }
    std::vector<Token> tokens(std::string_view text) {
        auto result = backend_->tokenize(text, {});
        EXPECT_TRUE(result);
        return result ? *result : std::vector<Token>();
    }
    void expect_error(Status const& status, Code code, std::string_view quoted) {
        ASSERT_FALSE(status);
        EXPECT_EQ(status.error().code, code) << status.error().message;
        EXPECT_NE(status.error().message.find(quoted), std::string::npos) << status.error().message;
    }
    std::unique_ptr<Backend> backend_;
};

// ggml's RPC backend trusts pointers that come over a socket.
TEST(UpstreamsBackends, ComputeHereAndNowhereElse) {
    EXPECT_EQ(ggml_backend_reg_by_name("RPC"), nullptr);
    for (std::size_t i = 0; i < ggml_backend_reg_count(); ++i)
        EXPECT_EQ(std::string_view(ggml_backend_reg_name(ggml_backend_reg_get(i))), "CPU");
}

TEST_F(Stories, SaysWhatItIs) {
    auto const& properties = backend_->properties();
    auto const& info = properties.info;
    EXPECT_EQ(info.architecture, "llama");
    EXPECT_EQ(info.quantization, "F32");
    EXPECT_EQ(info.vocabulary, 512U);
    EXPECT_EQ(properties.vocabulary, 512U);
    EXPECT_EQ(info.embedding, 64U);
    EXPECT_GT(info.parameters, 200'000U);
    EXPECT_EQ(info.file_bytes, std::filesystem::file_size(stories()));
    EXPECT_EQ(info.context_request, 128U);
    EXPECT_EQ(info.kv_cells, 1024U);
    EXPECT_EQ(info.sequences_max, 8U);
    EXPECT_EQ(info.threads, 1U);
    EXPECT_FALSE(info.chat_template);
    EXPECT_EQ(info.cpu_variant, *choose_cpu_variant(""));
    EXPECT_EQ(properties.batch_max, 64U);
    EXPECT_TRUE(properties.can_share_cells);
    EXPECT_TRUE(properties.can_truncate);
}

TEST_F(Stories, TellsAStory) {
    EXPECT_EQ(greedy(*backend_, tokens("Once upon a time"), 30),
              ", there was a little girl named Lily. She loved to play outside in the park. One day,");
}

TEST_F(Stories, MixedBatchesComputeWhatSeparateOnesDo) {
    auto const a = tokens("Once upon a time"), b = tokens("Tom had a red ball. He"), c = tokens("The dog");
    auto const alone_a = logits_after(*backend_, 0, a);
    auto const alone_b = logits_after(*backend_, 1, b);
    auto const alone_c = logits_after(*backend_, 2, c);
    for (SequenceId s = 0; s < 3; ++s) ASSERT_TRUE(backend_->remove(s, 0));

    // Interleaved token by token: a's last entries meet b's and c's in one batch.
    std::vector<BatchEntry> batch;
    std::size_t last_a = 0, last_b = 0, last_c = 0;
    for (std::size_t i = 0; i < std::max({a.size(), b.size(), c.size()}); ++i) {
        auto const position = static_cast<Position>(i);
        if (i < a.size()) last_a = batch.size(), batch.push_back({a[i], position, 5, i + 1 == a.size()});
        if (i < b.size()) last_b = batch.size(), batch.push_back({b[i], position, 1, i + 1 == b.size()});
        if (i < c.size()) last_c = batch.size(), batch.push_back({c[i], position, 3, i + 1 == c.size()});
    }
    ASSERT_TRUE(backend_->decode(batch));
    EXPECT_LT(difference(alone_a, backend_->logits(last_a)), kSameLogits);
    EXPECT_LT(difference(alone_b, backend_->logits(last_b)), kSameLogits);
    EXPECT_LT(difference(alone_c, backend_->logits(last_c)), kSameLogits);
}

// Two prompts long enough for tiles of the attention kernel, a short one, and
// tokens of sequences whose cells lie scattered between those of others.
TEST_F(Stories, TilesOfPromptsBesideScatteredSequencesComputeWhatSeparateOnesDo) {
    auto options = small_options(stories());
    options.batch_max = 512;
    auto const backend = load_or_die(options);
    auto const long_a = some_tokens(100, 512);
    auto const long_b = some_tokens(70, 511);
    auto const short_c = some_tokens(9, 510);
    constexpr SequenceId kScattered = 4;
    auto const expected_a = logits_after(*backend, 0, long_a);
    auto const expected_b = logits_after(*backend, 1, long_b);
    auto const expected_c = logits_after(*backend, 2, short_c);
    auto const expected_scattered = logits_after(*backend, 3, some_tokens(20, 509));
    for (SequenceId s = 0; s < 4; ++s) ASSERT_TRUE(backend->remove(s, 0));

    auto const scattered = some_tokens(20, 509);
    for (std::size_t i = 0; i + 1 < scattered.size(); ++i) {
        std::vector<BatchEntry> step;
        for (SequenceId s = 4; s < 4 + kScattered; ++s)
            step.push_back({scattered[i], static_cast<Position>(i), s, false});
        ASSERT_TRUE(backend->decode(step));
    }
    std::vector<BatchEntry> batch;
    auto const add = [&batch](std::vector<Token> const& prompt, SequenceId sequence) {
        for (std::size_t i = 0; i < prompt.size(); ++i)
            batch.push_back({prompt[i], static_cast<Position>(i), sequence, i + 1 == prompt.size()});
        return batch.size() - 1;
    };
    auto const at_a = add(long_a, 0);
    for (SequenceId s = 4; s < 4 + kScattered; ++s)
        batch.push_back({scattered.back(), static_cast<Position>(scattered.size() - 1), s, true});
    auto const at_scattered = batch.size() - 1;
    auto const at_c = add(short_c, 2);
    auto const at_b = add(long_b, 1);
    ASSERT_TRUE(backend->decode(batch));
    EXPECT_LT(difference(expected_a, backend->logits(at_a)), kSameLogits);
    EXPECT_LT(difference(expected_b, backend->logits(at_b)), kSameLogits);
    EXPECT_LT(difference(expected_c, backend->logits(at_c)), kSameLogits);
    EXPECT_LT(difference(expected_scattered, backend->logits(at_scattered)), kSameLogits);
}

TEST_F(Stories, ChunksOfAnySizeComputeTheSame) {
    auto const prompt = some_tokens(100, 512);
    auto const whole = logits_after(*backend_, 0, prompt, 0, 64);
    for (std::size_t chunk : {1U, 7U, 33U}) {
        ASSERT_TRUE(backend_->remove(0, 0));
        EXPECT_LT(difference(whole, logits_after(*backend_, 0, prompt, 0, chunk)), kSameLogits) << chunk;
    }
}

TEST_F(Stories, ACopyContinuesAsTheOriginalWould) {
    auto const prompt = some_tokens(60, 512);
    auto const tail = some_tokens(10, 512, 2);
    ASSERT_TRUE(feed(*backend_, 0, prompt));
    for (Position const end : {1, 30, 60}) {
        ASSERT_TRUE(backend_->copy_sequence(0, 1, end));
        auto const shared = logits_after(*backend_, 1, tail, end);
        ASSERT_TRUE(feed(*backend_, 2, std::span(prompt).first(static_cast<std::size_t>(end))));
        auto const fresh = logits_after(*backend_, 2, tail, end);
        EXPECT_LT(difference(fresh, shared), kSameLogits) << end;
        ASSERT_TRUE(backend_->remove(1, 0));
        ASSERT_TRUE(backend_->remove(2, 0));
    }
    // The donor is untouched, and may go while a copy lives.
    ASSERT_TRUE(backend_->copy_sequence(0, 1, 60));
    auto const before = logits_after(*backend_, 0, tail, 60);
    ASSERT_TRUE(backend_->remove(0, 0));
    EXPECT_LT(difference(before, logits_after(*backend_, 1, tail, 60)), kSameLogits);
}

TEST_F(Stories, ATruncatedSequenceForgetsItsTail) {
    auto const prompt = some_tokens(50, 512);
    auto const tail = some_tokens(5, 512, 3);
    ASSERT_TRUE(feed(*backend_, 0, std::span(prompt).first(20)));
    auto const expected = logits_after(*backend_, 0, tail, 20);
    ASSERT_TRUE(backend_->remove(0, 0));
    ASSERT_TRUE(feed(*backend_, 0, prompt));
    ASSERT_TRUE(backend_->remove(0, 20));
    EXPECT_LT(difference(expected, logits_after(*backend_, 0, tail, 20)), kSameLogits);
    EXPECT_TRUE(backend_->remove(0, 1000)) << "nothing there to remove";
}

TEST_F(Stories, ASavedSequenceComesBack) {
    auto const prompt = some_tokens(50, 512);
    auto const tail = some_tokens(5, 512, 3);
    ASSERT_TRUE(feed(*backend_, 0, prompt));
    auto const blob = backend_->save(0);
    ASSERT_TRUE(blob);
    auto const expected = logits_after(*backend_, 0, tail, 50);
    ASSERT_TRUE(backend_->restore(4, *blob));
    EXPECT_LT(difference(expected, logits_after(*backend_, 4, tail, 50)), kSameLogits);
    // Into another backend of the same model too.
    auto const other = load_or_die(small_options(stories()));
    ASSERT_TRUE(other->restore(1, *blob));
    EXPECT_LT(difference(expected, logits_after(*other, 1, tail, 50)), kSameLogits);
}

// Parts of any cut, from another sequence's cells, put together in another backend.
TEST_F(Stories, PartsOfASequenceComeBackAsTheWhole) {
    auto const prompt = some_tokens(120, 512);
    auto const tail = some_tokens(5, 512, 3);
    ASSERT_TRUE(feed(*backend_, 0, some_tokens(7, 512, 9)));  // so that cells do not begin at 0
    ASSERT_TRUE(feed(*backend_, 1, prompt));
    std::vector<std::vector<std::byte>> parts;
    for (auto const& [begin, end] : {std::pair(0, 40), std::pair(40, 41), std::pair(41, 120)}) {
        auto part = backend_->save_part(1, begin, end);
        ASSERT_TRUE(part) << part.error().message;
        parts.push_back(*std::move(part));
    }
    auto const overlapping = *backend_->save_part(1, 30, 80);
    auto const expected = logits_after(*backend_, 1, tail, 120);
    auto const other = load_or_die(small_options(stories()));
    EXPECT_EQ(other->state_key(), backend_->state_key());
    EXPECT_NE(other->state_key().find(kernels_revision()), std::string::npos) << "other kernels, other bits";
    for (int const cut : {40, 35}) {  // whole parts; a part cut where the next begins
        SequenceId const to = cut == 40 ? 2 : 3;
        ASSERT_TRUE(other->append_part(to, parts[0], cut));
        ASSERT_TRUE(other->append_part(to, overlapping, 60));
        ASSERT_TRUE(other->append_part(to, parts[2], 120));
        EXPECT_LT(difference(expected, logits_after(*other, to, tail, 120)), kSameLogits) << cut;
    }
    expect_error(other->append_part(4, parts[1], 41), Code::invalid_argument, "positions 40 to 41");
    expect_error(other->append_part(2, parts[0], 40), Code::invalid_argument, "125");
    expect_error(other->restore(4, parts[1]), Code::corrupt, "first 40");
    parts[0][parts[0].size() / 2] ^= std::byte{1};
    expect_error(other->append_part(4, parts[0], 40), Code::corrupt, "damaged");
    EXPECT_FALSE(backend_->save_part(1, 40, 40));
    EXPECT_FALSE(backend_->save_part(1, 0, 126));
}

TEST_F(Stories, StatesOfOtherProductsAreKeptApart) {
    auto options = small_options(stories());
    options.deterministic = true;
    auto const by_column = load_or_die(options);
    ASSERT_NE(by_column, nullptr);
    EXPECT_NE(by_column->state_key(), backend_->state_key());
}

TEST_F(Stories, AFileThatDiffersInOneByteHasStatesOfItsOwn) {
    auto const copy = std::filesystem::temp_directory_path() / fmt::format("hearth-one-byte-{}.gguf", ::getpid());
    std::filesystem::copy_file(stories(), copy);
    auto const key_of = [&copy] {
        auto const backend = load_or_die(small_options(copy.string()));
        return backend == nullptr ? std::string() : backend->state_key();
    };
    EXPECT_EQ(key_of(), backend_->state_key());
    auto const middle = static_cast<std::streamoff>(std::filesystem::file_size(copy) / 2) + 4321;
    std::fstream file(copy, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(middle);
    auto const was = static_cast<char>(file.get());
    file.seekp(middle);
    file.put(static_cast<char>(was ^ 1));
    file.close();
    EXPECT_NE(key_of(), backend_->state_key());
    auto options = small_options(copy.string());
    options.names_states = false;
    EXPECT_EQ(load_or_die(options)->state_key(), "");
    std::filesystem::remove(copy);
}

TEST_F(Stories, AnEmptySequenceIsSavedAndRestoredAsSuch) {
    auto const blob = backend_->save(3);
    ASSERT_TRUE(blob);
    ASSERT_TRUE(backend_->restore(2, *blob));
    EXPECT_TRUE(feed(*backend_, 2, some_tokens(3, 512)));
}

TEST_F(Stories, ADamagedBlobIsRefusedAndLeavesNothing) {
    ASSERT_TRUE(feed(*backend_, 0, some_tokens(20, 512)));
    auto blob = *backend_->save(0);
    blob[blob.size() / 2] ^= std::byte{1};
    expect_error(backend_->restore(1, blob), Code::corrupt, "damaged");
    blob[blob.size() / 2] ^= std::byte{1};
    expect_error(backend_->restore(1, std::span(blob).first(blob.size() - 1)), Code::corrupt, "cut");
    EXPECT_TRUE(backend_->restore(1, blob));
    expect_error(backend_->restore(1, blob), Code::invalid_argument, "20 positions");
}

TEST_F(Stories, BatchesThatBreakTheRulesAreRefusedAndChangeNothing) {
    auto const prompt = some_tokens(10, 512);
    ASSERT_TRUE(feed(*backend_, 0, prompt));
    auto const entry = [](Token token, Position position, SequenceId sequence) {
        return std::vector<BatchEntry>{{token, position, sequence, true}};
    };
    expect_error(backend_->decode({}), Code::invalid_argument, "1..64");
    expect_error(backend_->decode(std::vector<BatchEntry>(65, BatchEntry{5, 0, 1, false})), Code::invalid_argument,
                 "65");
    expect_error(backend_->decode(entry(512, 10, 0)), Code::invalid_argument, "token 512");
    expect_error(backend_->decode(entry(-1, 10, 0)), Code::invalid_argument, "token -1");
    expect_error(backend_->decode(entry(5, 10, 8)), Code::invalid_argument, "sequence 8");
    expect_error(backend_->decode(entry(5, 0, -1)), Code::invalid_argument, "sequence -1");
    expect_error(backend_->decode(entry(5, 11, 0)), Code::invalid_argument, "position 10, not 11");
    expect_error(backend_->decode(entry(5, 9, 0)), Code::invalid_argument, "position 10, not 9");
    expect_error(backend_->decode(entry(5, 3, 1)), Code::invalid_argument, "position 0, not 3");
    // The good entry before the bad one is not in the cache either.
    std::vector<BatchEntry> const half{{5, 10, 0, false}, {5, 0, 1, false}, {5, 2, 1, false}};
    expect_error(backend_->decode(half), Code::invalid_argument, "position 1, not 2");
    EXPECT_TRUE(backend_->decode(entry(5, 10, 0)));
    EXPECT_TRUE(backend_->decode(entry(5, 0, 1)));
}

TEST_F(Stories, CopiesAndRemovalsThatBreakTheRulesAreRefused) {
    ASSERT_TRUE(feed(*backend_, 0, some_tokens(10, 512)));
    ASSERT_TRUE(feed(*backend_, 1, some_tokens(5, 512)));
    expect_error(backend_->copy_sequence(0, 1, 10), Code::invalid_argument, "5 positions");
    expect_error(backend_->copy_sequence(0, 0, 10), Code::invalid_argument, "itself");
    expect_error(backend_->copy_sequence(0, 2, 11), Code::invalid_argument, "not 11");
    expect_error(backend_->copy_sequence(0, 2, -1), Code::invalid_argument, "not -1");
    expect_error(backend_->copy_sequence(256, 2, 1), Code::invalid_argument, "sequence 256");
    expect_error(backend_->copy_sequence(0, -2, 1), Code::invalid_argument, "sequence -2");
    expect_error(backend_->remove(256, 0), Code::invalid_argument, "sequence 256");
    expect_error(backend_->remove(0, -1), Code::invalid_argument, "-1");
    EXPECT_FALSE(backend_->save(256));
    EXPECT_FALSE(backend_->restore(-1, {}));
}

TEST_F(Stories, AFullCacheSaysSoAndWorksAgainAfterwards) {
    auto options = small_options(stories());
    options.kv_cells = 256;
    auto const small = load_or_die(options);
    auto const prompt = some_tokens(120, 512);
    ASSERT_TRUE(feed(*small, 0, prompt));
    ASSERT_TRUE(feed(*small, 1, prompt));
    ASSERT_TRUE(small->copy_sequence(0, 2, 120)) << "a copy takes no cells";
    auto const rest = some_tokens(16, 512);
    ASSERT_TRUE(feed(*small, 2, rest, 120));  // 256 of 256

    std::vector<BatchEntry> const one{{5, 120, 0, true}};
    expect_error(small->decode(one), Code::overloaded, "needs 1 cells; 0 of 256");
    auto const blob = small->save(1);
    ASSERT_TRUE(blob);
    expect_error(small->restore(3, *blob), Code::overloaded, "needs 120 cells; 0 of 256");

    ASSERT_TRUE(small->remove(0, 0)) << "its cells live on in the copy";
    std::vector<BatchEntry> const first{{5, 0, 0, true}};
    expect_error(small->decode(first), Code::overloaded, "0 of 256");
    ASSERT_TRUE(small->remove(2, 0));
    EXPECT_TRUE(small->restore(3, *blob));
    EXPECT_TRUE(small->decode(first));
}

TEST_F(Stories, EveryCellCanBeUsedHoweverScattered) {
    auto options = small_options(stories());
    options.kv_cells = 256;
    auto const small = load_or_die(options);
    for (SequenceId s = 0; s < 8; ++s) ASSERT_TRUE(feed(*small, s, some_tokens(32, 512)));
    for (SequenceId s = 0; s < 8; s += 2) ASSERT_TRUE(small->remove(s, 3));
    // 4 holes of 29 cells take one sequence of 64 and 52 more entries.
    ASSERT_TRUE(feed(*small, 0, some_tokens(64, 512), 3));
    ASSERT_TRUE(feed(*small, 2, some_tokens(52, 512), 3));
    EXPECT_FALSE(feed(*small, 4, some_tokens(1, 512), 3));
}

TEST_F(Stories, TwoBackendsDoNotDisturbEachOther) {
    auto const other = load_or_die(small_options(stories()));
    auto const prompt = tokens("Once upon a time");
    auto const alone = logits_after(*backend_, 0, prompt);
    ASSERT_TRUE(feed(*other, 0, some_tokens(40, 512)));
    auto const again = logits_after(*other, 1, prompt);
    EXPECT_LT(difference(alone, again), kSameLogits);
    auto const row = backend_->logits(prompt.size() - 1);
    EXPECT_EQ(difference(alone, row), 0) << "the other's work left these logits alone";
}

TEST_F(Stories, LogitsNobodyAskedForAreABug) {
    std::vector<BatchEntry> const batch{{5, 0, 0, false}, {6, 1, 0, true}};
    ASSERT_TRUE(backend_->decode(batch));
    EXPECT_EQ(backend_->logits(1).size(), 512U);
    EXPECT_DEATH((void)backend_->logits(0), "asked for logits");
    EXPECT_DEATH((void)backend_->logits(2), "asked for logits");
}

TEST_F(Stories, EmbeddingsDoNotDependOnTheirNeighbours) {
    std::vector<std::vector<Token>> const inputs{tokens("Once upon a time"), tokens("The dog"), tokens("A red ball")};
    auto const together = backend_->embed(inputs);
    ASSERT_TRUE(together) << together.error().message;
    ASSERT_EQ(together->size(), 3U);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        EXPECT_EQ((*together)[i].size(), 64U);
        auto const alone = backend_->embed(std::span(&inputs[i], 1));
        ASSERT_TRUE(alone);
        EXPECT_LT(difference((*alone)[0], (*together)[i]), kSameLogits);
    }
    EXPECT_GT(difference((*together)[0], (*together)[1]), 1e-3) << "different texts, different vectors";
    EXPECT_TRUE(feed(*backend_, 0, inputs[0])) << "the generating cache is not involved";
}

TEST_F(Stories, ManyEmbeddingsArePackedInTurns) {
    std::vector<std::vector<Token>> inputs;
    for (std::uint32_t i = 0; i < 40; ++i) inputs.push_back(some_tokens(1 + i * 3, 512, i));
    auto const all = backend_->embed(inputs);
    ASSERT_TRUE(all) << all.error().message;
    ASSERT_EQ(all->size(), 40U);
    for (std::size_t i : {0U, 17U, 39U})
        EXPECT_LT(difference((*backend_->embed(std::span(&inputs[i], 1)))[0], (*all)[i]), kSameLogits) << i;
}

TEST_F(Stories, BadEmbeddingInputsAreNamed) {
    auto const fails = [&](std::vector<Token> input, Code code, std::string_view quoted) {
        std::vector<std::vector<Token>> const inputs{{5}, std::move(input)};
        auto const result = backend_->embed(inputs);
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().code, code);
        EXPECT_NE(result.error().message.find(quoted), std::string::npos) << result.error().message;
    };
    fails({}, Code::invalid_argument, "input 1 has no tokens");
    fails({512}, Code::invalid_argument, "token 512");
    fails(some_tokens(129, 512), Code::context_overflow, "129 tokens; at most 128");
    auto const none = backend_->embed({});
    ASSERT_TRUE(none);
    EXPECT_TRUE(none->empty());
}

TEST_F(Stories, MemoryIsWhatTheShapesSay) {
    auto const memory = backend_->memory();
    // 5 layers, 4 KV heads of 8 values, K and V, two bytes each.
    EXPECT_EQ(memory.kv, 1024U * 5 * 4 * 8 * 2 * 2);
    EXPECT_GT(memory.weights, 1'000'000U);
    EXPECT_LE(memory.weights, std::filesystem::file_size(stories()));
    EXPECT_GT(memory.scratch, 0U);
    EXPECT_EQ(backend_->properties().info.memory_bytes, memory.weights + memory.kv + memory.scratch);
}

long resident_bytes() {
    long pages = 0, resident = 0;
    std::ifstream("/proc/self/statm") >> pages >> resident;
    return resident * 4096;
}

TEST_F(Stories, AnUnusedCacheIsNotResident) {
    auto options = small_options(stories());
    options.kv_cells = 1U << 18;  // 168 MB
    long const before = resident_bytes();
    auto const big = load_or_die(options);
    auto const kv = static_cast<long>(big->memory().kv);
    ASSERT_GT(kv, 100'000'000);
    EXPECT_LT(resident_bytes() - before, kv / 4);
    ASSERT_TRUE(feed(*big, 0, some_tokens(100, 512)));
    EXPECT_LT(resident_bytes() - before, kv / 2);
}

TEST_F(Stories, ProgressRisesToOneAndTheLogComesInLines) {
    auto options = small_options(stories());
    std::vector<float> progress;
    options.progress = [&](float value) { progress.push_back(value); };
    ASSERT_NE(load_or_die(options), nullptr);
    ASSERT_FALSE(progress.empty());
    EXPECT_TRUE(std::is_sorted(progress.begin(), progress.end()));
    EXPECT_EQ(progress.back(), 1.0F);
}

// --- loading ---

TEST(LoadLibllama, OptionsOutOfRangeAreNamed) {
    HEARTH_MODEL_OR_SKIP(path, stories());
    auto const fails = [&](auto change, std::string_view param, std::string_view quoted) {
        auto options = small_options(path);
        change(options);
        auto const result = load_libllama(options);
        ASSERT_FALSE(result) << param;
        EXPECT_EQ(result.error().code, Code::invalid_argument);
        EXPECT_EQ(result.error().param, param);
        EXPECT_NE(result.error().message.find(quoted), std::string::npos) << result.error().message;
    };
    fails([](LoadOptions& o) { o.sequences_max = 0; }, "sequences_max", "1..256, not 0");
    fails([](LoadOptions& o) { o.sequences_max = 257; }, "sequences_max", "257");
    fails([](LoadOptions& o) { o.batch_max = 0; }, "batch_max", "not 0");
    fails([](LoadOptions& o) { o.batch_max = 1U << 20; }, "batch_max", "1048576");
    fails([](LoadOptions& o) { o.threads = 100000; }, "threads", "100000");
    fails([](LoadOptions& o) { o.kv_cells = 100; }, "kv_cells", "100 cannot hold one request of 128");
    fails([](LoadOptions& o) { o.context_request = 100000; }, "context_request", "100000 is more than the");
    fails([](LoadOptions& o) { o.cpu_variant = "mmx"; }, "cpu_variant", "'mmx'");
}

TEST(LoadLibllama, FilesThatCannotBeReadAreSaidSo) {
    auto missing = load_libllama(small_options("/nonexistent/model.gguf"));
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, Code::not_found);
    auto folder = load_libllama(small_options("/"));
    ASSERT_FALSE(folder);
    EXPECT_EQ(folder.error().code, Code::io);
}

TEST(LoadLibllama, FilesThatAreNoModelAreCorrupt) {
    HEARTH_MODEL_OR_SKIP(path, stories());
    std::string content;
    {
        std::ifstream file(path, std::ios::binary);
        content.assign(std::istreambuf_iterator<char>(file), {});
    }
    auto const copy = std::filesystem::temp_directory_path() / ("hearth-broken-" + std::to_string(getpid()) + ".gguf");
    auto const fails = [&](std::string_view bytes) {
        std::ofstream(copy, std::ios::binary | std::ios::trunc)
            .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        auto const result = load_libllama(small_options(copy.string()));
        ASSERT_FALSE(result) << bytes.size();
        EXPECT_EQ(result.error().code, Code::corrupt) << result.error().message;
        EXPECT_NE(result.error().message.find(copy.string()), std::string::npos);
    };
    fails("");
    fails("this is not a model");
    fails(std::string_view(content).substr(0, 100));
    fails(std::string_view(content).substr(0, content.size() / 2));
    std::filesystem::remove(copy);
}

TEST(LoadLibllama, AnotherVariantInTheSameProcessIsRefused) {
    HEARTH_MODEL_OR_SKIP(path, stories());
    auto const first = load_or_die(small_options(path));
    for (auto const& variant : cpu_variants()) {
        if (!variant.runnable || variant.name == first->properties().info.cpu_variant) continue;
        auto options = small_options(path);
        options.cpu_variant = variant.name;
        auto const second = load_libllama(options);
        ASSERT_FALSE(second);
        EXPECT_EQ(second.error().code, Code::invalid_argument);
        EXPECT_NE(second.error().message.find("already uses"), std::string::npos);
    }
}

// One process runs one variant, so each runs in a child, which writes its logits.
std::filesystem::path logits_file(std::string const& variant) {
    return std::filesystem::temp_directory_path() / ("hearth-logits-" + std::to_string(getppid()) + "-" + variant);
}

[[noreturn]] void write_logits_and_exit(std::string const& path, std::string const& variant, bool flash) {
    auto options = small_options(path);
    options.cpu_variant = variant;
    options.flash_attention = flash ? FlashAttention::on : FlashAttention::off;
    auto const backend = load_libllama(options);
    if (!backend) {
        std::fprintf(stderr, "%s\n", backend.error().message.c_str());
        std::exit(1);
    }
    auto const logits = logits_after(**backend, 0, some_tokens(100, 512));
    std::ofstream file(logits_file(variant + (flash ? "-flash" : "")), std::ios::binary);
    file.write(reinterpret_cast<char const*>(logits.data()),
               static_cast<std::streamsize>(logits.size() * sizeof(float)));
    file.close();
    std::exit(0);
}

std::vector<float> read_logits(std::filesystem::path const& path) {
    EXPECT_TRUE(std::filesystem::exists(path)) << path;
    std::vector<float> logits(512);
    std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(logits.data()), 512 * sizeof(float));
    std::filesystem::remove(path);
    return logits;
}

TEST(LibllamaDeathTest, EveryVariantAndFlashAttentionComputeTheSame) {
    HEARTH_MODEL_OR_SKIP(path, stories());
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    // The children run this loop too: nothing in it may depend on what they wrote.
    std::vector<std::string> written;
    for (auto const& variant : cpu_variants()) {
        for (bool const flash : {false, true}) {
            if (!variant.runnable) continue;
            EXPECT_EXIT(write_logits_and_exit(path, variant.name, flash), ::testing::ExitedWithCode(0), "");
            written.push_back(variant.name + (flash ? "-flash" : ""));
        }
    }
    auto const read = [](std::string const& name) {
        return read_logits(std::filesystem::temp_directory_path() /
                           ("hearth-logits-" + std::to_string(getpid()) + "-" + name));
    };
    ASSERT_FALSE(written.empty());
    auto const reference = read(written.front());
    for (std::size_t i = 1; i < written.size(); ++i) {
        double const d = difference(reference, read(written[i]));
        EXPECT_LT(d, 1e-4) << written[i] << " against " << written.front();
        EXPECT_GT(d, 0) << written[i] << ": other instructions round differently";
    }
}

}  // namespace
}  // namespace hearth::llama
