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
    if (trial_ > 0) {
      if (--trial_ > 0 && (other == 0 || ns < kHopeless * other)) return;
      trial_ = 0;
      if (other == 0) return turn(kTrial);
      known > other ? turn(0) : rest(0);
    } else if (known > other) {
      turn(0);
    } else if (spent_ >= until_) {
      turn(kTrial);
    }
  }

 private:
  static constexpr double kInertia = 8;    // runs after which a longer time is believed
  static constexpr double kHopeless = 4;   // a trial so much slower ends at once
  static constexpr int kTrial = 4;         // runs of a trial
  static constexpr double kPatience = 20;  // one part in so many may be lost
  static constexpr double kLeast = 20e6;   // ns between trials

  void turn(int trial) {
    together_ = !together_;
    trial_ = trial;
    rest(trial > 0 ? 0 : lost_);
  }
  void rest(double lost) {
    until_ = kLeast + kPatience * lost;
    spent_ = lost_ = 0;
  }

  double ns_[2] = {0, 0};  // alone, together: falls at once, rises slowly; 0 if it has yet to be tried
  bool together_ = false;
  int trial_ = kTrial;           // runs left in a trial
  double spent_ = 0, lost_ = 0;  // since the last turn
  double until_ = kLeast;        // what is spent before the next trial
};

}  // namespace throughtime
