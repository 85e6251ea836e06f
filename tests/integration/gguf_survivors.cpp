// What the validator accepts must not kill the engine: files that are damaged
// or odd, yet pass models::, are loaded, tokenised with and decoded by the real
// backend in a forked process. Refusals and errors are fine, a signal is not.
//
// HEARTH_SURVIVORS=all probes every file instead of a sample; HEARTH_SEED picks
// another sample.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <new>
#include <string>
#include <vector>

#include <ggml.h>
#include <gtest/gtest.h>

#include "llama/libllama_backend.h"
#include "models/ggml_types.h"
#include "models/gguf.h"
#include "odd_models.h"
#include "testing/gguf_writer.h"

namespace hearth {
namespace {

constexpr unsigned kSecondsEach = 60;  // a probe takes milliseconds; this is a hang

bool everything() {
    auto const* value = std::getenv("HEARTH_SURVIVORS");
    return value != nullptr && std::string_view(value) == "all";
}

std::uint32_t base_seed() {
    auto const* value = std::getenv("HEARTH_SEED");
    return value == nullptr ? 0 : static_cast<std::uint32_t>(std::strtoul(value, nullptr, 10));
}

// Shared with the forked processes.
struct Progress {
    std::atomic<std::size_t> index{0};  // being probed, or about to be
    std::atomic<std::size_t> loaded{0};
    std::atomic<std::size_t> decoded{0};
};

// Everything a worker does with a model, once.
void probe(std::string const& path, Progress& progress) {
    llama::LoadOptions options;
    options.path = path;
    options.context_request = 64;
    options.kv_cells = 256;
    options.sequences_max = 2;
    options.batch_max = 64;
    options.threads = 1;
    options.log = [](int, std::string_view) {};
    auto const loaded = llama::load_libllama(options);
    if (!loaded) return;
    ++progress.loaded;
    auto& backend = **loaded;
    auto const text =
        std::string("Once upon a time, \xc3\xa9\n\x01 ab <s> </s> \xf0\x9f\x98\x80 \xff\xfe ") + std::string(200, ' ');
    (void)backend.tokenize("", {.add_special = true});
    auto const plain = backend.tokenize(text, {.add_special = true, .parse_special = false});
    auto const parsed = backend.tokenize(text, {.add_special = false, .parse_special = true});
    std::string pieces;
    for (std::uint32_t token = 0; token < backend.properties().vocabulary; ++token) {
        backend.append_piece(static_cast<llama::Token>(token), pieces);
        (void)backend.is_end_of_generation(static_cast<llama::Token>(token));
    }
    domain::ChatPrompt prompt;
    prompt.messages = {{"user", "hello"}};
    (void)backend.render_chat(prompt);
    std::vector<llama::BatchEntry> batch;
    for (std::size_t i = 0; i < 20; ++i) {
        auto const token = plain && i < plain->size() ? (*plain)[i] : llama::Token{0};
        batch.push_back({token, static_cast<llama::Position>(i), 0, i == 19});
    }
    if (!backend.decode(batch)) return;
    ++progress.decoded;
    (void)backend.remove(0, 5);
}

struct Death {
    std::size_t index;
    int status;
};

// Probes `count` files in forked processes, a new one after each death.
// `place(i)` writes the file and says where it is; empty leaves it out.
std::vector<Death> probe_all(std::size_t count, Progress& progress,
                             std::function<std::string(std::size_t)> const& place) {
    std::vector<Death> deaths;
    for (std::size_t next = 0; next < count;) {
        progress.index = next;
        std::fflush(nullptr);
        auto const child = ::fork();
        if (child == 0) {
            ::setenv("GGML_NO_BACKTRACE", "1", 1);
            for (auto i = next; i < count; ++i) {
                progress.index = i;
                ::alarm(kSecondsEach);
                if (auto const path = place(i); !path.empty()) probe(path, progress);
            }
            ::_exit(0);
        }
        int status = 0;
        if (child < 0 || ::waitpid(child, &status, 0) != child) {
            ADD_FAILURE() << "cannot fork";
            return deaths;
        }
        next = status == 0 ? count : progress.index + 1;
        if (status != 0) deaths.push_back({progress.index, status});
        if (deaths.size() == 20) return deaths;  // enough to see what is wrong
    }
    return deaths;
}

std::string how(int status) {
    if (WIFSIGNALED(status)) return std::string(WTERMSIG(status) == SIGALRM ? "hung" : ::strsignal(WTERMSIG(status)));
    return "exit status " + std::to_string(WEXITSTATUS(status));
}

class GgufSurvivors : public ::testing::Test {
protected:
    GgufSurvivors() {
        auto* memory = ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory != MAP_FAILED) progress_ = new (memory) Progress;
    }
    ~GgufSurvivors() override { ::munmap(progress_, sizeof(Progress)); }

    void expect_alive(std::vector<Death> const& deaths, std::function<std::string(std::size_t)> const& describe) {
        for (auto const& death : deaths)
            ADD_FAILURE() << describe(death.index) << ": the engine died (" << how(death.status) << ")";
    }

    models::testing::ScratchFolder folder_;
    Progress* progress_ = nullptr;
};

std::string stories() {
    auto const* root = std::getenv("HEARTH_SOURCE_DIR");
    auto const path = std::filesystem::path(root == nullptr ? "." : root) / "../shared/models/stories260Ktok512.gguf";
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// Bits of the header whose flip the validator accepts. Flips in token texts and
// scores survive by the thousand and make much the same model: one in 64 of
// those, one in 4 of the others, unless everything is asked for.
std::vector<std::size_t> surviving_bits(std::string& whole, models::GgufFile const& file) {
    auto const inside = [&](std::size_t byte, char const* key) {
        auto const* array = file.array(key);
        return array != nullptr && byte >= array->offset && byte < array->offset + array->bytes;
    };
    std::vector<std::size_t> bits;
    for (std::size_t bit = 0; bit < file.data_offset * 8; ++bit) {
        bool const common = inside(bit / 8, "tokenizer.ggml.tokens") || inside(bit / 8, "tokenizer.ggml.scores");
        auto const stride = everything() ? 1U
                            : common     ? 61U
                                         : 5U;  // no multiples of 8: every bit of a byte gets its turn
        if (bit % stride != base_seed() % stride) continue;
        auto const flip = static_cast<char>(1 << (bit % 8));
        whole[bit / 8] = static_cast<char>(whole[bit / 8] ^ flip);
        if (models::testing::parse(whole)) bits.push_back(bit);
        whole[bit / 8] = static_cast<char>(whole[bit / 8] ^ flip);
    }
    return bits;
}

TEST_F(GgufSurvivors, AFlippedBitThatIsAcceptedDoesNotKillTheEngine) {
    auto whole = stories();
    if (whole.empty()) GTEST_SKIP() << "../shared/models/stories260Ktok512.gguf is not there";
    auto const file = models::testing::parse(whole);
    ASSERT_TRUE(file) << file.error().message;
    auto const bits = surviving_bits(whole, *file);
    auto const path = folder_.write("flipped.gguf", whole);
    auto const fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_GE(fd, 0);

    auto const put = [&](std::size_t bit, bool flipped) {
        auto const byte = static_cast<char>(whole[bit / 8] ^ (flipped ? 1 << (bit % 8) : 0));
        return ::pwrite(fd, &byte, 1, static_cast<::off_t>(bit / 8)) == 1;
    };
    auto const deaths = probe_all(bits.size(), *progress_, [&](std::size_t i) {
        if (i > 0) put(bits[i - 1], false);
        return put(bits[i], true) ? path : std::string();
    });
    ::close(fd);

    expect_alive(deaths, [&](std::size_t i) {
        return "bit " + std::to_string(bits[i] % 8) + " of byte " + std::to_string(bits[i] / 8);
    });
    std::printf("%zu flips: %zu loaded, %zu decoded\n", bits.size(), progress_->loaded.load(),
                progress_->decoded.load());
    EXPECT_GT(progress_->decoded, bits.size() / 10) << "the probe does not reach the engine";
}

TEST_F(GgufSurvivors, AnOddModelThatIsAcceptedDoesNotKillTheEngine) {
    std::size_t const count = everything() ? 20'000 : 1'000;
    auto const make = [](std::size_t i) { return OddModels(base_seed() + static_cast<std::uint32_t>(i)).llama(); };
    auto const deaths = probe_all(count, *progress_, [&](std::size_t i) {
        auto const bytes = make(i);
        return models::testing::parse(bytes) ? folder_.write("odd.gguf", bytes) : std::string();
    });

    expect_alive(deaths, [](std::size_t i) { return "seed " + std::to_string(base_seed() + i); });
    std::printf("%zu odd models: %zu loaded, %zu decoded\n", count, progress_->loaded.load(),
                progress_->decoded.load());
    EXPECT_GT(progress_->decoded, count / 10) << "the probe does not reach the engine";
}

TEST_F(GgufSurvivors, NoArchitectureIsKilledByNumbersThatAreAccepted) {
    std::size_t const rounds = everything() ? 200 : 10;
    auto const count = kEngineArchitectures.size() * rounds;
    ASSERT_GT(kEngineArchitectures.size(), 100U);
    auto const name = [](std::size_t i) { return std::string(kEngineArchitectures[i % kEngineArchitectures.size()]); };
    auto const deaths = probe_all(count, *progress_, [&](std::size_t i) {
        OddModels odd(base_seed() + static_cast<std::uint32_t>(i));
        auto const bytes = odd.of(name(i), i < kEngineArchitectures.size() ? 0 : static_cast<std::uint32_t>(i % 40));
        return models::testing::parse(bytes) ? folder_.write("odd.gguf", bytes) : std::string();
    });

    expect_alive(deaths, [&](std::size_t i) { return name(i) + ", seed " + std::to_string(base_seed() + i); });
    std::printf("%zu models of %zu architectures: %zu loaded\n", count, kEngineArchitectures.size(),
                progress_->loaded.load());
    EXPECT_GT(progress_->loaded, 0U);
}

TEST(GgufTypes, AreThoseOfThePinnedEngine) {
    EXPECT_EQ(models::ggml_type(GGML_TYPE_COUNT).name, "");
    for (std::uint32_t id = 0; id < GGML_TYPE_COUNT; ++id) {
        auto const type = static_cast<ggml_type>(id);
        auto const ours = models::ggml_type(id);
        EXPECT_EQ(ours.block_elements, ggml_blck_size(type)) << id;
        EXPECT_EQ(ours.block_bytes, ggml_type_size(type)) << id;
        if (ggml_blck_size(type) == 0) continue;  // removed; upstream has no name for it either
        EXPECT_EQ(::strcasecmp(std::string(ours.name).c_str(), ggml_type_name(type)), 0) << ours.name;
    }
}

}  // namespace
}  // namespace hearth
