// Whether work that is done again and again goes faster on one thread or on all: both are tried, the better is kept,
// and the other is tried again now and then. A machine shared with others may stop a thread for milliseconds while the
// rest wait for it, so whatever a trial loses must first become small against the time since.
#pragma once

namespace throughtime {

class Pace {
 public:
  // Whether the next run should take all threads.
  bool together() const { return together_; }

  // The run that together() was asked for took so long.
  void ran(double ns) {
    double& known = ns_[together_];
    const double other = ns_[!together_];
    known = known == 0 || ns < known ? ns : known + (ns - known) / kInertia;
    spent_ += ns;
    if (ns > other && other > 0) lost_ += ns - other;
    runs_++;
    if (spent_ < kSettled) return;
    if (trial_) {
      const bool hopeless = other > 0 && known >= kHopeless * other;
      if (runs_ < (hopeless ? 2 : kTrial)) return;
      trial_ = false;
      if (other == 0) return turn(true);
      known > other ? turn(false) : rest(0);
    } else if (known > other) {
      turn(false);
    } else if (spent_ >= until_) {
      turn(true);
    }
  }

 private:
  static constexpr double kInertia = 8;    // runs after which a longer time is believed
  static constexpr double kSettled = 2e6;  // ns before any judgement: threads just woken may share a core for a while
  static constexpr int kTrial = 4;         // runs of a trial; two are enough if it is hopeless:
  static constexpr double kHopeless = 4;   // so many times slower
  static constexpr double kPatience = 20;  // one part in so many may be lost
  static constexpr double kLeast = 20e6;   // ns between trials

  void turn(bool trial) {
    together_ = !together_;
    trial_ = trial;
    rest(trial ? 0 : lost_);
  }
  void rest(double lost) {
    until_ = kLeast + kPatience * lost;
    spent_ = lost_ = 0;
    runs_ = 0;
  }

  double ns_[2] = {0, 0};  // alone, together: falls at once, rises slowly; 0 if it has yet to be tried
  bool together_ = false;
  bool trial_ = true;            // of what has yet to be known, or known again
  double spent_ = 0, lost_ = 0;  // since the last turn
  int runs_ = 0;                 // likewise
  double until_ = kLeast;        // what is spent before the next trial
};

}  // namespace throughtime
